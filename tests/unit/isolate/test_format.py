"""The .isolated document: what is taken, what is refused, how includes merge."""

import itertools
import json
import os
import posixpath
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dist_test.errors import InvalidIsolated
from dist_test.isolate.format import Isolated, Tree, TreeFile, emit_isolated, merge, parse_isolated, stays_inside

A, B, C, D = ("a" * 40, "b" * 40, "c" * 40, "d" * 40)


def document(**keys: Any) -> bytes:
    return json.dumps({"version": "1.4", "algo": "sha-1"} | keys).encode()


def entry(digest: str = A, size: int = 3) -> dict[str, Any]:
    return {"h": digest, "s": size}


def file(path: str, digest: str = A) -> TreeFile:
    return TreeFile(path=path, digest=digest, size_bytes=3)


def link(path: str, target: str) -> TreeFile:
    return TreeFile(path=path, link=target)


def tree_of(*files: TreeFile) -> Tree:
    return merge(A, {A: Isolated(files=files)})


def test_document_of_the_go_archiver_is_read() -> None:
    isolated = parse_isolated(
        b'{"algo":"sha-1","command":["../run.sh","x"],"files":{"run.sh":{"h":"' + A.encode() + b'","m":493,"s":10}},'
        b'"includes":["' + B.encode() + b'"],"relative_cwd":"q","version":"1.4"}\n'
    )
    assert isolated == Isolated(
        command=("../run.sh", "x"),
        files=(TreeFile(path="run.sh", digest=A, size_bytes=10, mode=0o755),),
        includes=(B,),
        relative_cwd="q",
    )


def test_document_of_the_python_archivers_is_read() -> None:
    isolated = parse_isolated(
        document(version="1.6", read_only=1, relative_cwd=".", files={"a": entry() | {"t": "basic"}})
    )
    assert (isolated.read_only, isolated.relative_cwd) == (1, "")


@pytest.mark.parametrize("version", ["1.0", "1.3", "1.4", "1.6", "1.99"])
def test_any_version_1_is_read(version: str) -> None:
    assert parse_isolated(document(version=version)) == Isolated()


def test_a_document_without_version_is_1_0_and_may_name_an_os() -> None:
    assert parse_isolated(b'{"os": "linux"}') == Isolated()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\xff", id="not text"),
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b"[]", id="a list"),
        pytest.param(document(version="2.0"), id="version 2"),
        pytest.param(document(version=1.4), id="version as a number"),
        pytest.param(document(algo="sha-256"), id="another algorithm"),
        pytest.param(document(surprise=1), id="unknown key"),
        pytest.param(document(os="linux"), id="os in 1.4"),
        pytest.param(document(command=[]), id="empty command"),
        pytest.param(document(command="ls"), id="command as text"),
        pytest.param(document(command=["a", 1]), id="number in command"),
        pytest.param(document(command=["a\0"]), id="NUL in command"),
        pytest.param(document(includes=[]), id="empty includes"),
        pytest.param(document(includes=["A" * 40]), id="digest in upper case"),
        pytest.param(document(read_only=3), id="read_only 3"),
        pytest.param(document(read_only=True), id="read_only as truth value"),
        pytest.param(document(relative_cwd="../x"), id="relative_cwd leads out"),
        pytest.param(document(relative_cwd="/x"), id="relative_cwd absolute"),
        pytest.param(document(files=[]), id="files as list"),
        pytest.param(document(files={"a": 1}), id="entry as number"),
        pytest.param(document(files={"a": {"h": A}}), id="no size"),
        pytest.param(document(files={"a": {"s": 1}}), id="no digest"),
        pytest.param(document(files={"a": entry(size=-1)}), id="negative size"),
        pytest.param(document(files={"a": {"h": A, "s": True}}), id="size as truth value"),
        pytest.param(document(files={"a": entry() | {"m": 0o10000}}), id="mode too big"),
        pytest.param(document(files={"a": entry() | {"x": 1}}), id="unknown key in entry"),
        pytest.param(document(files={"a": entry() | {"t": "tar"}}), id="an archive"),
        pytest.param(document(files={"a": {"l": "b", "m": 1}}), id="link with mode"),
        pytest.param(document(files={"a": {"l": ""}}), id="empty link"),
        pytest.param(document(files={"a": {"l": "b\0"}}), id="NUL in link"),
        pytest.param(document(files={"\ud800": entry()}), id="name that no file system has"),
    ],
)
def test_what_the_format_does_not_allow_is_refused(content: bytes) -> None:
    with pytest.raises(InvalidIsolated):
        parse_isolated(content)


@pytest.mark.parametrize(
    "path", ["", "/", "/a", "a/", "a//b", ".", "./a", "a/./b", "..", "../a", "a/../b", "a/..", "a\0b"]
)
def test_a_path_that_leaves_the_tree_or_is_not_plain_is_refused(path: str) -> None:
    with pytest.raises(InvalidIsolated):
        parse_isolated(document(files={path: entry()}))


@given(st.text(alphabet="ab./\0", max_size=12))
def test_every_accepted_path_is_normal_and_below_the_root(path: str) -> None:
    try:
        parse_isolated(document(files={path: entry()}))
    except InvalidIsolated:
        return
    assert posixpath.normpath(posixpath.join("/root", path)) == f"/root/{path}"
    assert path


def test_setuid_bits_are_dropped() -> None:
    assert parse_isolated(document(files={"a": entry() | {"m": 0o4755}})).files[0].mode == 0o755


def test_what_is_emitted_is_read_back_the_same() -> None:
    isolated = Isolated(
        command=("a", "b\udc80"),
        files=(TreeFile(path="caf\udc80", digest=A, size_bytes=1, mode=0o640), link("z", "caf")),
        includes=(B, C),
        relative_cwd="caf",
        read_only=0,
    )
    assert parse_isolated(emit_isolated(isolated)) == isolated


def test_empty_parts_are_left_out() -> None:
    assert json.loads(emit_isolated(Isolated())) == {"algo": "sha-1", "version": "1.4", "files": {}}


def test_the_first_definition_wins_parents_first_then_left_to_right() -> None:
    documents = {
        A: Isolated(files=(file("a", A),), includes=(B, C)),
        B: Isolated(files=(file("a", B), file("b", B)), includes=(D,)),
        C: Isolated(files=(file("b", C), file("d", C)), command=("c",), relative_cwd="c"),
        D: Isolated(files=(file("d", D),), command=("d",)),
    }
    tree = merge(A, documents)
    assert {f.path: f.digest for f in tree.files} == {"a": A, "b": B, "d": D}
    assert (tree.command, tree.relative_cwd) == (("d",), "c")


def test_a_document_that_is_included_twice_counts_once() -> None:
    documents = {
        A: Isolated(includes=(B, C)),
        B: Isolated(includes=(D,)),
        C: Isolated(includes=(D, D)),
        D: Isolated(files=(file("d"),)),
    }
    assert [f.path for f in merge(A, documents).files] == ["d"]


@pytest.mark.parametrize("last", [A, B, C])
def test_a_document_that_includes_itself_is_refused(last: str) -> None:
    documents = {A: Isolated(includes=(B,)), B: Isolated(includes=(C,)), C: Isolated(includes=(last,))}
    with pytest.raises(InvalidIsolated, match="includes itself"):
        merge(A, documents)


def test_a_long_chain_of_includes_is_no_problem() -> None:
    names = [f"{number:040x}" for number in range(5_000)]
    documents = {name: Isolated(includes=(following,)) for name, following in itertools.pairwise(names)}
    documents[names[-1]] = Isolated(files=(file("end"),))
    assert [f.path for f in merge(names[0], documents).files] == ["end"]


@pytest.mark.parametrize("first", [file("a"), link("a", "b"), file("a/b"), link("a/b", "c")])
def test_a_file_or_link_that_is_also_a_directory_is_refused(first: TreeFile) -> None:
    with pytest.raises(InvalidIsolated, match="also a directory"):
        tree_of(file("a/b/c/d"), first)


@pytest.mark.parametrize(
    "files",
    [
        pytest.param([link("a", "/etc/passwd")], id="absolute"),
        pytest.param([link("a", "..")], id="up"),
        pytest.param([link("d/a", "../../x")], id="up twice"),
        pytest.param([link("a", "x/../../y")], id="down and up"),
        pytest.param([link("d/e/here", "../.."), link("out", "d/e/here/..")], id="up through another link"),
        pytest.param([link("out", "b/c"), link("b", "d"), link("d", "../x")], id="a chain that ends outside"),
        pytest.param([link("a", "a")], id="itself"),
        pytest.param([link("a", "b"), link("b", "a")], id="in a circle"),
    ],
)
def test_a_link_that_leads_out_of_the_tree_is_refused(files: list[TreeFile]) -> None:
    with pytest.raises(InvalidIsolated, match="leads out"):
        tree_of(*files)


def test_a_path_that_linux_does_not_allow_is_refused_before_anything_is_made_of_it() -> None:
    path = "a/" * 2**19 + "a"
    for file in (TreeFile(path=path, digest=A, size_bytes=1), link("a", path)):
        with pytest.raises(InvalidIsolated, match="longer than the 4095 bytes") as caught:
            parse_isolated(emit_isolated(Isolated(files=(file,))))
        assert len(str(caught.value)) < 500


def test_a_link_that_takes_too_long_to_follow_is_refused() -> None:
    detour = "x/../" * 800
    chain = [link(f"a{number}", f"{detour}a{number + 1}") for number in range(10)]
    with pytest.raises(InvalidIsolated, match="leads out"):
        tree_of(*chain)


@pytest.mark.parametrize("target", ["b", "./b", "d/e", "d/../b", "missing", ".", "d//e/"])
def test_a_link_inside_the_tree_is_kept(target: str) -> None:
    assert tree_of(link("a", target)).files == (link("a", target),)


_LINKS = st.dictionaries(
    st.sampled_from(["a", "b", "d/a", "d/b", "d/e/a"]),
    st.lists(st.sampled_from(["a", "b", "d", "e", "..", "."]), min_size=1, max_size=6).map("/".join),
    max_size=4,
)


@given(_LINKS)
def test_links_that_are_accepted_stay_inside_on_a_real_disk(links: dict[str, str]) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as top:
        root = os.path.realpath(os.path.join(top, "x/y/z/root"))  # noqa: PTH118
        os.makedirs(f"{root}/d/e")  # noqa: PTH103
        for path, target in links.items():
            os.symlink(target, f"{root}/{path}")  # noqa: PTH211
        for path, target in links.items():
            if stays_inside(path, target, links):
                assert f"{os.path.realpath(f'{root}/{path}')}/".startswith(f"{root}/")
