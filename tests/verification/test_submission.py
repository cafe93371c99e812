"""Submissions: whole, clean of the submitter's machine, verified without data, and every byte of them is watched."""

from __future__ import annotations

import io
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tampering import Copy, finish_run, lower_accuracy, read

from avbench.cli import main
from avbench.errors import RequestError
from avbench.verification.archive import unpacked
from avbench.verification.files import CHECKSUMS, VERIFICATION, check_checksums, walk
from avbench.verification.findings import Findings
from avbench.verification.integrity import check_integrity
from avbench.verification.submission import Submission, cleaned
from avbench.verification.tiers import INTEGRITY, RECORDS, tiers

Main = Callable[..., tuple[int, str, str]]


@pytest.fixture
def avbench(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """The command line in this process: exit status, stdout, stderr."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["avbench", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        told = capsys.readouterr()
        return int(ended.value.code or 0), told.out, told.err

    return run


@pytest.fixture(scope="module")
def finished(small: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("submission")
    copy = Copy(finish_run(small, folder / "runs"), folder / "copy")
    (copy.root / "jobs" / "one-1").mkdir(parents=True)
    (copy.root / "jobs" / "one-1" / "log.txt").write_text("/home/somebody", encoding="utf-8")
    return copy.root


def test_a_submission_is_verified_offline_and_tells_nothing_of_the_machine(
    finished: Path, avbench: Main, tmp_path: Path
) -> None:
    out = tmp_path / "mine"
    assert avbench("submit", finished, "-o", out, "--contact", "me@example.org")[0] == 0
    status, told, _ = avbench("verify", out)
    assert status == 0 and "10 integrity" in told
    assert set(tiers(out).values()) == {INTEGRITY}
    names = {path.relative_to(out).parts[0] for path in walk(out)}
    assert names == {"distil", "evaluate", "prerequisite", "submission.json", CHECKSUMS, VERIFICATION}
    assert not list(out.glob("prerequisite/*/*.safetensors"))
    host = read(next(finished.glob("distil/*/record.json")))["environment"]["host"]
    for path in walk(out):
        text = path.read_bytes().decode("utf-8", errors="ignore")
        assert "secret" not in text and "/home" not in text and f'"{host}"' not in text, path
    assert read(next(out.glob("distil/*/record.json")))["argv"][:4] == ["avbench", "run", "--out", "…/runs"]


def test_any_changed_byte_is_seen(finished: Path, avbench: Main, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    avbench("submit", finished, "-o", out)
    watched = [path for path in walk(out) if path.name != VERIFICATION]
    assert len(watched) > 30
    for number, path in enumerate(watched):
        content = path.read_bytes()
        place = number * 7919 % len(content)
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        findings = Findings()
        check_checksums(out, findings)
        assert findings.problems, path
        path.write_bytes(content)


def test_large_artefacts_lie_elsewhere_and_are_known_when_they_come(
    finished: Path, avbench: Main, tmp_path: Path
) -> None:
    out = tmp_path / "small"
    place = ("--artefacts-url", "https://example.org/sets")
    status, _, notes = avbench("submit", finished, "-o", out, "--max-artefact-mib", "0.002", *place)
    assert status == 0 and "https://example.org/sets" in notes
    learned = [path.parent for path in Copy(finished, tmp_path / "copy").records("distil", "dm")]
    assert not list(out.glob(f"distil/{learned[0].name}/*.safetensors"))
    status, told, notes = avbench("verify", out)
    assert status == 0 and "the artefacts of 2 cells are not here" in notes and "records only" in told
    assert set(tiers(out).values()) == {INTEGRITY, RECORDS}

    for folder in learned:
        for tensors in folder.rglob("distilled.safetensors"):
            (out / "distil" / tensors.relative_to(tmp_path / "copy" / "distil")).write_bytes(tensors.read_bytes())
    assert check_integrity(out).findings.absent == set()
    assert check_integrity(out).findings.problems == []
    forged = out / "distil" / learned[0].name / "distilled.safetensors"
    forged.write_bytes(forged.read_bytes()[:-1] + b"\x07")
    assert {p.check for p in check_integrity(out).findings.problems} >= {"checksums", "artefacts"}


def test_smuggled_files_are_refused(finished: Path, avbench: Main, tmp_path: Path) -> None:
    out = tmp_path / "mine"
    avbench("submit", finished, "-o", out)
    (out / "run.sh").write_text("#!/bin/sh\n", encoding="utf-8")
    (out / "distil" / "notes").symlink_to("/etc/hostname")
    next(out.glob("evaluate/*/record.json")).chmod(0o755)
    problems = {p.text for p in check_integrity(out).findings.problems if p.check == "files"}
    assert {text.split(";")[0] for text in problems} == {
        "is none of the files that results consist of",
        "is a link",
        "is executable",
    }
    (out / CHECKSUMS).write_text(f"{'0' * 64}  ../../outside\n", encoding="utf-8")
    assert "is no checksum of a file" in str(check_integrity(out).findings.problems)


def test_an_archive_is_the_same_every_time_and_holds_what_the_folder_does(
    finished: Path, avbench: Main, tmp_path: Path
) -> None:
    archive = tmp_path / "mine.tar.gz"
    assert avbench("submit", finished, "-o", archive)[0] == 0
    assert avbench("verify", archive)[0] == 0
    with tarfile.open(archive) as opened:
        assert {member.uname for member in opened} == {""}
    with unpacked(archive) as root:
        assert root.name == "mine"
        inside = root
    assert not inside.exists()
    assert avbench("submit", finished, "-o", archive)[0] == 2


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("../outside", tarfile.REGTYPE),
        ("/outside", tarfile.REGTYPE),
        ("mine/../../outside", tarfile.REGTYPE),
        ("mine/link", tarfile.SYMTYPE),
        ("mine/hard", tarfile.LNKTYPE),
        ("mine/device", tarfile.CHRTYPE),
    ],
)
def test_an_archive_can_not_leave_its_folder(tmp_path: Path, name: str, kind: bytes) -> None:
    path = tmp_path / "evil.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo(name)
        member.type, member.linkname, member.size = kind, "/etc/hostname", 3 if kind == tarfile.REGTYPE else 0
        archive.addfile(member, io.BytesIO(b"abc"))
    with pytest.raises(RequestError, match="is no plain file"), unpacked(path):
        pass
    assert [each.name for each in tmp_path.iterdir()] == ["evil.tar.gz"]


@pytest.mark.parametrize("content", [b"", b"no archive", b"\x1f\x8b\x08\x00broken"])
def test_a_damaged_archive_is_refused_in_one_line(avbench: Main, tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "broken.tar.gz"
    path.write_bytes(content)
    status, _, told = avbench("verify", path)
    assert status == 2 and "can't be read as an archive" in told and len(told.splitlines()) == 1


def test_results_with_problems_are_not_submitted(finished: Path, avbench: Main, tmp_path: Path) -> None:
    copy = Copy(finished, tmp_path / "copy")
    copy.change(copy.records("evaluate", "dm")[0], lambda record: record.update(seed=7))
    status, _, told = avbench("submit", copy.root, "-o", tmp_path / "out")
    assert status == 2 and "fails" in told and not (tmp_path / "out").exists()
    status, told, _ = avbench("verify", copy.root)
    assert status == 3 and "failed: keys: evaluate/" in told


def test_a_forged_number_is_submitted_like_any_other(finished: Path, avbench: Main, tmp_path: Path) -> None:
    """What integrity can't catch: the tier of such a record is integrity and no more."""
    copy = Copy(finished, tmp_path / "copy")
    path = copy.records("evaluate", "dm")[0]
    copy.change(path, lower_accuracy)
    assert avbench("submit", copy.root, "-o", tmp_path / "out")[0] == 0
    assert tiers(tmp_path / "out")[path.parent.name] == INTEGRITY


@pytest.mark.parametrize(
    "about",
    [
        Submission("../up"),
        Submission("Mine"),
        Submission("mine", contact="two\nlines"),
        Submission("mine", artefacts_url="http://plain"),
    ],
)
def test_what_can_not_be_published_is_refused(about: Submission) -> None:
    with pytest.raises(RequestError, match=r"--name|--contact|--artefacts-url"):
        about.check()


@pytest.mark.parametrize(
    ("given", "published"),
    [
        ("/home/me/runs", "…/runs"),
        ("--data=/srv/a/data", "--data=…/data"),
        ("~/runs/x", "…/x"),
        ("C:\\Users\\me\\runs", "…/runs"),
        ("the worker was killed; see /home/me/jobs/log.txt", "the worker was killed; see …/log.txt"),
        ("runs/x", "runs/x"),
        ("https://doi.org/10.1/x", "https://doi.org/10.1/x"),
        ("audio/visual", "audio/visual"),
        ("dm[lr=4.2],timm/resnet18", "dm[lr=4.2],timm/resnet18"),
    ],
)
def test_paths_are_cut_to_their_last_part_and_nothing_else_is(given: str, published: str) -> None:
    record = {"argv": [given], "error": {"reason": given}, "method": {"options": {"x": given}}}
    found = cleaned(record | {"environment": {"host": "mine", "python": "3"}})
    assert found["argv"] == [published] and found["error"] == {"reason": published}
    assert found["method"] == record["method"] and found["environment"] == {"python": "3"}
