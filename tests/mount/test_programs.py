"""Programs that ask more of a file system than copying: editors, builds, package managers, git.

Data flow: git, vim, sed, make, cc, pip -> mount -> what the same programs then find there.

What is missing on this machine is named by its Debian package; `CI=true scripts/setup` installs it.
"""

import fcntl
import os
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.support.inotify import Watch
from tests.support.mounts import Daemon
from tests.support.programs import commit, git, run
from tests.support.requirements import require_program


@pytest.fixture
def repository(folder: Path) -> Path:
    """Two branches of ten commits each, apart since the first commit; all of it on the mount."""
    require_program("git", "install git")
    path = folder / "repository"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    commit(path, "shared", "".join(f"line {number}\n" for number in range(100)))
    for branch in ("topic", "main"):
        git(path, "checkout", "-q", *(["-b"] if branch == "topic" else []), branch)
        for number in range(10):
            lines = (path / "shared").read_text().splitlines(keepends=True)
            lines[number * 5 + 50 * (branch == "main")] = f"{branch} {number}\n"
            (path / "shared").write_text("".join(lines))
            git(path, "add", "shared")
            commit(path, f"{branch}-{number}", branch * 1000 + str(number))
    return path


def test_git_rebases_collects_and_clones(repository: Path, folder: Path, tmp_path: Path) -> None:
    git(repository, "checkout", "-q", "topic")
    git(repository, "rebase", "-q", "main")
    assert git(repository, "rev-list", "--count", "HEAD").strip() == "21"
    assert (repository / "shared").read_text().count("topic") == 10
    assert (repository / "shared").read_text().count("main") == 10
    git(repository, "gc", "-q", "--aggressive", "--prune=now")
    git(repository, "fsck", "--full", "--strict", "--no-progress")
    for clone in (folder / "linked", tmp_path / "outside"):
        run("git", "clone", "-q", "--branch", "topic", repository, clone)
        git(clone, "fsck", "--full", "--strict", "--no-progress")
        assert git(clone, "rev-parse", "HEAD") == git(repository, "rev-parse", "HEAD")
        assert git(clone, "status", "--porcelain") == ""
    packs = [path.stat().st_ino for path in (repository / ".git/objects/pack").glob("*.pack")]
    linked = [path.stat().st_ino for path in (folder / "linked/.git/objects/pack").glob("*.pack")]
    assert packs == linked, "a clone on the same mount shares its packs by hard links"


def test_git_keeps_what_it_committed_when_the_daemon_is_killed(fresh: Daemon) -> None:
    require_program("git", "install git")
    path = fresh.path / "repository"
    path.mkdir()
    git(path, "init", "-q", "-b", "main")
    git(path, "config", "core.fsync", "all")
    for number in range(5):
        commit(path, "file", f"version {number}\n")
    expected = git(path, "rev-parse", "HEAD")
    # git synchronises the branch's file, but not the folder in which it then renames it.
    folder = os.open(path / ".git/refs/heads", os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(folder)
    os.close(folder)
    fresh.kill()
    fresh.start()
    assert git(path, "rev-parse", "HEAD") == expected
    git(path, "fsck", "--full", "--strict", "--no-progress")
    assert git(path, "show", "HEAD:file") == "version 4\n"


def vim(path: Path, *commands: str, recover: bool = False) -> int:
    """vim on one file, in its folder, started with nobody's configuration; its exit code."""
    program = require_program("vim", "install vim")
    options = "set swapfile directory=. backup backupdir=. backupskip="
    arguments = [part for command in (options, *commands) for part in ("-c", command)]
    done = subprocess.run(
        [program, "-Nu", "NONE", "-i", "NONE", "-es", *(["-r"] * recover), path.name, *arguments],
        cwd=path.parent,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
    )
    return done.returncode


@pytest.mark.parametrize(("copied", "same_file"), [("yes", True), ("no", False)])
def test_vim_saves_and_keeps_a_backup(folder: Path, copied: str, same_file: bool) -> None:
    """backupcopy=yes writes into the file that is there, =no renames it away and makes a new one;
    vim only does so if what it made shows the same mode and owner."""
    path = folder / "letter.txt"
    path.write_text("dear bob\n" * 3000)
    path.chmod(0o640)
    before = path.stat().st_ino
    assert vim(path, f"set backupcopy={copied}", "%s/bob/carol/", "wq") == 0
    assert path.read_text() == "dear carol\n" * 3000
    assert (folder / "letter.txt~").read_text() == "dear bob\n" * 3000
    assert path.stat().st_mode & 0o777 == 0o640
    assert (path.stat().st_ino == before) is same_file
    assert sorted(os.listdir(folder)) == ["letter.txt", "letter.txt~"]


def test_vim_recovers_from_its_swap_file(folder: Path) -> None:
    path = folder / "letter.txt"
    path.write_text("saved\n")
    killed = vim(
        path, "normal onot saved", "preserve", "call system('kill -9 ' . getpid())", "sleep 60"
    )
    assert killed == -signal.SIGKILL
    assert path.read_text() == "saved\n"
    assert (folder / ".letter.txt.swp").exists()
    assert vim(path, "wq! recovered.txt", recover=True) == 0
    assert (folder / "recovered.txt").read_text() == "saved\nnot saved\n"


def test_programs_that_edit_in_place(folder: Path) -> None:
    """sed, perl and sort each write beside the file and rename."""
    path = folder / "list"
    path.write_text("".join(f"{number % 100:02} name\n" for number in range(5000)))
    path.chmod(0o604)
    with open(path) as reader:
        run("sed", "-i.bak", "s/name/changed/", path)
        run("perl", "-pi", "-e", "s/changed/twice/", path)
        run("sort", "-u", "-o", path, path)
        assert reader.readline() == "00 name\n", "who had it open still reads the old file"
    assert path.read_text() == "".join(f"{number:02} twice\n" for number in range(100))
    assert path.stat().st_mode & 0o777 == 0o604
    assert sorted(os.listdir(folder)) == ["list", "list.bak"]


def save_atomically(path: Path, content: bytes) -> None:
    """As editors do that care: a new file beside it, fsync, rename over it, fsync of the folder."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with open(beside, "xb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
    descriptor = os.open(path.parent, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def test_an_atomic_save_is_there_after_a_kill(fresh: Daemon) -> None:
    path = fresh.path / "document"
    for number in range(6):
        content = os.urandom(300_000 * number + 7)
        save_atomically(path, content)
        fresh.kill()
        fresh.start()
        assert path.read_bytes() == content
        assert os.listdir(fresh.path) == ["document"]


def lock_as_an_office_does(document: Path, who: bytes) -> int | None:
    """The lock file of LibreOffice beside a document; None: somebody else has it open."""
    try:
        lock = document.with_name(f".~lock.{document.name}#")
        descriptor = os.open(lock, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o666)
    except FileExistsError:
        return None
    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(descriptor, b"," + who + b",machine,28.11.2026 09:00,file:///home;")
    os.fsync(descriptor)
    return descriptor


def test_an_office_saves_by_rename_under_its_lock(folder: Path) -> None:
    """The document is written as a temporary archive, checked by reading it, and renamed over the
    old one, which stays readable for who has it open; then the lock file goes."""
    document = folder / "report.odt"
    document.write_bytes(b"old" * 9000)
    lock = lock_as_an_office_does(document, b"alice")
    assert lock is not None
    assert lock_as_an_office_does(document, b"bob") is None
    found = (folder / ".~lock.report.odt#").read_bytes()
    assert found.startswith(b",alice,")
    with open(document, "rb") as opened:
        for number in range(4):
            temporary = folder / f"lu{number}.tmp"
            with zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
                archive.writestr("mimetype", "application/vnd.oasis.opendocument.text")
                archive.writestr("content.xml", f"<text>{number}</text>" * 5000)
            with zipfile.ZipFile(temporary) as archive:
                assert archive.testzip() is None
            temporary.chmod(0o644)
            temporary.rename(document)
        assert opened.read() == b"old" * 9000
    (folder / ".~lock.report.odt#").unlink()
    os.close(lock)
    with zipfile.ZipFile(document) as archive:
        assert archive.read("content.xml") == b"<text>3</text>" * 5000
    assert os.listdir(folder) == ["report.odt"]


MAKEFILE = """\
CFLAGS = -O1 -MMD -Wall -Werror
objects = $(patsubst %.c,%.o,$(wildcard part*.c))
program: main.o libparts.a
\t$(CC) -o $@ $^
libparts.a: $(objects)
\t$(AR) rcs $@ $?
-include *.d
"""


@pytest.fixture
def project(folder: Path) -> Path:
    """A program of 13 C files in a library of 12, headers in between."""
    path = folder / "project"
    path.mkdir()
    (path / "Makefile").write_text(MAKEFILE)
    names = [f"part{number}" for number in range(12)]
    for number, name in enumerate(names):
        (path / f"{name}.h").write_text(f"int {name}(void);\n#define V{number} {number}\n")
        (path / f"{name}.c").write_text(
            f'#include "{name}.h"\nint {name}(void){{return V{number};}}\n'
        )
    calls = " + ".join(f"{name}()" for name in names)
    includes = "".join(f'#include "{name}.h"\n' for name in names)
    (path / "main.c").write_text(
        f'#include <stdio.h>\n{includes}int main(void) {{ printf("%d\\n", {calls}); return 0; }}\n'
    )
    return path


def test_make_builds_two_at_a_time_and_only_what_changed(project: Path) -> None:
    for program in ("make", "gcc", "ar"):
        require_program(program, "install make and gcc")
    built = run("make", "-j2", cwd=project)
    assert built.count(" -c ") == 13
    assert run(project / "program") == "66\n"
    assert "up to date" in run("make", "-j2", cwd=project)
    header = project / "part5.h"
    header.write_text(header.read_text().replace("V5 5", "V5 105"))
    later = (project / "program").stat().st_mtime_ns + 10**9
    os.utime(header, ns=(later, later))
    again = subprocess.run(
        ["make", "-j2"], cwd=project, capture_output=True, text=True, timeout=60, check=True
    )  # it may warn of a header from the future
    assert sorted(line.split()[-1] for line in again.stdout.splitlines() if " -c " in line) == [
        "main.c",
        "part5.c",
    ]
    assert run(project / "program") == "166\n"


def wheel(folder: Path) -> Path:
    """A small pure Python package with a command, as an archive that pip installs."""
    path = folder / "greeting-1.0-py3-none-any.whl"
    info = "greeting-1.0.dist-info"
    files = {
        "greeting/__init__.py": "from greeting.data import TEXT\ndef main(): print(TEXT)\n",
        "greeting/data.py": "TEXT = 'hello from the mount'\n",
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[console_scripts]\ngreet = greeting:main\n",
    }
    record = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in {**files, f"{info}/RECORD": record}.items():
            archive.writestr(name, text)
    return path


def test_pip_installs_into_an_environment_there(folder: Path, tmp_path: Path) -> None:
    environment = folder / "environment"
    env = {
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_NO_CACHE_DIR": "1",
        "PIP_CONFIG_FILE": os.devnull,
    }
    run(sys.executable, "-m", "venv", environment)
    python = environment / "bin/python"
    install = (python, "-m", "pip", "install", "-q", "--no-index", "--root-user-action=ignore")
    run(*install, wheel(tmp_path), env=env)
    assert run(environment / "bin/greet") == "hello from the mount\n"
    where = run(python, "-c", "import greeting; print(greeting.__file__)").strip()
    assert Path(where).is_relative_to(environment)
    assert "greeting" in run(python, "-m", "pip", "list", env=env)
    run(python, "-m", "pip", "check", env=env)
    run(
        python,
        "-m",
        "pip",
        "uninstall",
        "-q",
        "-y",
        "--root-user-action=ignore",
        "greeting",
        env=env,
    )
    assert not (environment / "bin/greet").exists()


def test_copies_that_would_share_blocks_are_real_copies(folder: Path) -> None:
    content = os.urandom(5_000_000)
    (folder / "original").write_bytes(content)
    run("cp", "--reflink=auto", folder / "original", folder / "copy")
    with open(folder / "copy", "r+b") as file:
        file.write(b"changed")
    assert (folder / "copy").read_bytes() == b"changed" + content[7:]
    assert (folder / "original").read_bytes() == content
    # What promises shared blocks must not pretend.
    refused = subprocess.run(
        ["cp", "--reflink=always", folder / "original", folder / "refused"],
        capture_output=True,
        timeout=60,
    )
    assert refused.returncode == 1


def test_sparse_copies_stay_sparse(folder: Path, tmp_path: Path) -> None:
    with open(tmp_path / "sparse", "wb") as file:
        file.seek(40 << 20)
        file.write(b"end")
    run("cp", "--sparse=always", tmp_path / "sparse", folder / "by-cp")
    run("tar", "-C", tmp_path, "-Scf", tmp_path / "sparse.tar", "sparse")
    run("tar", "-C", folder, "-xf", tmp_path / "sparse.tar")
    run("rsync", "--sparse", tmp_path / "sparse", folder / "by-rsync")
    for name in ("by-cp", "sparse", "by-rsync"):
        run("cmp", tmp_path / "sparse", folder / name)
        assert (folder / name).stat().st_blocks * 512 <= 2 << 20, name


def test_watchers_are_told_what_is_done_here(folder: Path) -> None:
    """The events of a plain folder, in the same order: the kernel makes them, and we must not
    swallow or double any by what we answer or invalidate."""
    with Watch(folder) as watch:
        (folder / "draft").write_bytes(b"x")
        (folder / "draft").chmod(0o600)
        (folder / "draft").rename(folder / "final")
        (folder / "sub").mkdir()
        (folder / "final").unlink()
        assert watch.events() == [
            "CREATE draft",
            "MODIFY draft",
            "CLOSE_WRITE draft",
            "ATTRIB draft",
            "MOVED draft final",
            "CREATE sub/",
            "DELETE final",
        ]
