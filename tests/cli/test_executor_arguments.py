"""What `durable executor` is given: the name of an app, and settings."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from durable.cli import main
from durable.cli.load import load_app
from durable.errors import ConfigurationError


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("shop", "MODULE:APP"),
        ("shop:", "MODULE:APP"),
        ("shop.py:app", "MODULE:APP"),
        (".shop:app", "MODULE:APP"),
        ("nowhere:app", "no module 'nowhere'"),
        ("shop.inner:app", "no module 'shop.inner'"),
        ("shop:gone", "has no 'gone'; apps in it: app"),
        ("shop:number", "is a int, not a Durable app; apps in it: app"),
    ],
)
def test_a_name_that_leads_nowhere_gives_2_and_says_so(
    target: str, expected: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("SCHEMA", "any")
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    assert main(["executor", target]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1


def test_what_a_module_raises_is_not_hidden(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(RuntimeError, match="broken at import"):
        load_app("broken:app")
    with pytest.raises(ModuleNotFoundError, match="no_such_module_anywhere"):
        load_app("needy:app")


@pytest.mark.parametrize(
    ("option", "value"),
    [("--grace", "soon"), ("--lease", "1ms"), ("--concurrency", "0"), ("--queue", " "), ("--retention", "x")],
)
def test_settings_that_mean_nothing_give_2_before_anything_is_imported(
    option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["executor", "nowhere:app", option, value]) == 2
    err = capsys.readouterr().err
    assert option.removeprefix("--") in err
    assert "nowhere" not in err


def test_a_bare_number_means_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigurationError, match="no module 'nowhere'"):
        load_app("nowhere:app")
    assert main(["executor", "nowhere:app", "--grace", "2.5", "--lease", "30", "--poll-interval", "250ms"]) == 2
    assert main(["executor", "nowhere:app", "--retention", "never"]) == 2
    assert "no module 'nowhere'" in capsys.readouterr().err
