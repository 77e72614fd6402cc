import typer

from theory.cli.program import INTERRUPTED, program, run


def test_ctrl_c_is_said_and_has_its_exit_code(capsys):
    app = program("app", "A command that is interrupted.")

    @app.command()
    def wait() -> None:
        raise KeyboardInterrupt

    assert run(app, []) == INTERRUPTED
    assert capsys.readouterr().err.strip() == "interrupted"


def test_an_exit_code_of_a_commands_own_is_kept(capsys):
    app = program("app", "A command that finds a difference.")

    @app.command()
    def differ() -> None:
        raise typer.Exit(1)

    assert run(app, []) == 1
    assert capsys.readouterr().err == ""
