"""The receiver as a process: what keeps it from starting."""

from pathlib import Path

import pytest

from alertmanager.receiver.service import main
from common.http import bind


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--baseline", "/nowhere/llm.yml"], "cannot read /nowhere/llm.yml"),
        (["--config", "/nowhere/ladder.yml"], "cannot read /nowhere/ladder.yml"),
        (["--listen", "8001"], "not HOST:PORT"),
        (["--listen", "0.0.0.0:0"], "needs a webhook token"),
        (["--hold", "-1"], "0 or more seconds"),
        (["--hold", "nan"], "0 or more seconds"),
    ],
)
def test_what_keeps_it_from_starting_is_one_sentence_and_status_2(
    arguments: list[str], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = ["--effective", str(tmp_path / "e.yml"), "--state", str(tmp_path / "s.json")]
    assert main([*files, "--listen", "127.0.0.1:0", *arguments]) == 2
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("receiver: ")
    assert words in error


def test_a_taken_port_leaves_the_files_of_its_holder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    effective = tmp_path / "effective.yml"
    effective.write_text("enabled: false\n")
    with bind("127.0.0.1", 0) as taken:
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        files = ["--effective", str(effective), "--state", str(tmp_path / "state.json")]
        assert main([*files, "--listen", listen]) == 2
    assert f"cannot listen on {listen}" in capsys.readouterr().err
    assert effective.read_text() == "enabled: false\n"
    assert list(tmp_path.iterdir()) == [effective]
