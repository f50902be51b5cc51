"""The vendor installer's manifest: every type's fields, real lines, and broken ones."""

from dataclasses import astuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modulus.core.package.vendor_manifest import TYPES, ManifestEntry, parse_manifest
from modulus.errors import IntegrityError

HEADER = (
    "NVIDIA Accelerated Graphics Driver for Linux-x86_64\n535.309.01\n \n"
    "nvidia nvidia-uvm nvidia-modeset nvidia-drm nvidia-peermem \n \n \n./kernel/\n"
    "./kernel/precompiled/\n"
)


def entry(line: str) -> ManifestEntry:
    (found,) = parse_manifest(f"{HEADER}{line}\n").entries
    return found


def test_header() -> None:
    manifest = parse_manifest(HEADER)
    assert manifest.description == "NVIDIA Accelerated Graphics Driver for Linux-x86_64"
    assert manifest.version == "535.309.01"
    assert manifest.modules == (
        "nvidia",
        "nvidia-uvm",
        "nvidia-modeset",
        "nvidia-drm",
        "nvidia-peermem",
    )
    assert manifest.entries == ()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "kernel/nvidia/nv.c 0644 KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1 MODULE:resman",
            ("kernel/nvidia/nv.c", 0o644, None, "nvidia/", None, "resman", 1),
        ),
        (
            "kernel/Makefile 0644 KERNEL_MODULE_SRC INHERIT_PATH_DEPTH:1 MODULE:resman",
            ("kernel/Makefile", 0o644, None, "", None, "resman", 1),
        ),
        (
            "firmware/gsp_tu10x.bin 0444 FIRMWARE INHERIT_PATH_DEPTH:1 MODULE:installer",
            ("firmware/gsp_tu10x.bin", 0o444, None, "", None, "installer", 1),
        ),
        (
            "libcuda.so.1 0000 CUDA_SYMLINK NATIVE / libcuda.so.535.309.01 MODULE:gpgpu",
            ("libcuda.so.1", 0, "NATIVE", "/", "libcuda.so.535.309.01", "gpgpu", None),
        ),
        (
            "./32/libcuda.so.535.309.01 0755 CUDA_LIB COMPAT32 / MODULE:gpgpu",
            ("32/libcuda.so.535.309.01", 0o755, "COMPAT32", "/", None, "gpgpu", None),
        ),
        (
            "libGLX_nvidia.so.0 0000 OPENGL_SYMLINK NATIVE libGLX_nvidia.so.1 MODULE:opengl",
            ("libGLX_nvidia.so.0", 0, "NATIVE", "", "libGLX_nvidia.so.1", "opengl", None),
        ),
        (
            "nvidia-smi 0755 UTILITY_BINARY MODULE:nvml",
            ("nvidia-smi", 0o755, None, "", None, "nvml", None),
        ),
        ("nvidia.icd 0444 CUDA_ICD", ("nvidia.icd", 0o444, None, "", None, None, None)),
        (
            "nvidia-modprobe 04755 NVIDIA_MODPROBE /usr/bin/ MODULE:installer",
            ("nvidia-modprobe", 0o4755, None, "/usr/bin/", None, "installer", None),
        ),
        (
            "nvidia-modprobe.1.gz 0444 NVIDIA_MODPROBE_MANPAGE man1/ MODULE:installer",
            ("nvidia-modprobe.1.gz", 0o444, None, "man1/", None, "installer", None),
        ),
        # Types of other times: told by the form of their words.
        ("libGL.la 0644 LIBGL_LA NATIVE", ("libGL.la", 0o644, "NATIVE", "", None, None, None)),
        (
            "x.so 0000 NEW_SYMLINK COMPAT32 sub/ y.so MODULE:m",
            ("x.so", 0, "COMPAT32", "sub/", "y.so", "m", None),
        ),
        ("x.so 0000 NEW_SYMLINK y.so", ("x.so", 0, None, "", "y.so", None, None)),
        ("a/b/c 0644 NEW INHERIT_PATH_DEPTH:1", ("a/b/c", 0o644, None, "b/", None, None, 1)),
    ],
)
def test_entries(line: str, expected: tuple[object, ...]) -> None:
    found = entry(line)
    assert found.type == line.split()[2]
    file, mode, _, *rest = astuple(found)
    assert (file, mode, *rest) == expected


def test_entries_end_at_the_first_empty_line() -> None:
    text = f"{HEADER}a 0644 UTILITY_BINARY\n\nno entry\n"
    assert [found.file for found in parse_manifest(text).entries] == ["a"]


def test_the_table_is_the_vendors() -> None:
    """All of its 65 types but the two that carry the vendor's name, with sane fields."""
    assert len(TYPES) == 63
    for name, fields in TYPES.items():
        assert fields.link == name.endswith("_SYMLINK")
        assert not (fields.path and fields.inherit)
    assert sum(fields.arch for fields in TYPES.values()) == 28
    assert sum(fields.path for fields in TYPES.values()) == 27
    assert [name for name, fields in TYPES.items() if fields.inherit] == [
        "KERNEL_MODULE_SRC",
        "DKMS_CONF",
        "FIRMWARE",
    ]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", 1),
        ("d\n1\n", 3),
        (HEADER.replace("535.309.01", ""), 2),
        (HEADER.replace("535.309.01", "../1"), 2),
        (HEADER.replace("nvidia nvidia-uvm nvidia-modeset nvidia-drm nvidia-peermem", ""), 4),
        (f"{HEADER}a 0644\n", 9),
        (f"{HEADER}a 0644 UTILITY_BINARY\nb 0999 UTILITY_BINARY\n", 10),
        (f"{HEADER}a -644 UTILITY_BINARY\n", 9),
        (f"{HEADER}a 0644 CUDA_LIB MODULE:gpgpu\n", 9),
        (f"{HEADER}a 0644 CUDA_LIB SPARC /\n", 9),
        (f"{HEADER}a 0644 CUDA_LIB NATIVE MODULE:gpgpu\n", 9),
        (f"{HEADER}a 0644 CUDA_SYMLINK NATIVE / MODULE:gpgpu\n", 9),
        (f"{HEADER}a 0644 FIRMWARE /\n", 9),
        (f"{HEADER}a 0644 FIRMWARE INHERIT_PATH_DEPTH:x\n", 9),
        (f"{HEADER}a/b 0644 FIRMWARE INHERIT_PATH_DEPTH:2\n", 9),
        (f"{HEADER}/etc/passwd 0644 UTILITY_BINARY\n", 9),
        (f"{HEADER}a/../../b 0644 UTILITY_BINARY\n", 9),
        (f"{HEADER}a 0644 MANPAGE ../../etc/\n", 9),
        (f"{HEADER}a\0 0644 UTILITY_BINARY\n", 9),
    ],
)
def test_broken_manifests_name_the_line(text: str, line: int) -> None:
    with pytest.raises(IntegrityError) as caught:
        parse_manifest(text)
    assert f"line {line}:" in caught.value.message
    assert "\n" not in caught.value.message


_WORD = st.text("abcdefgh.-_+0123456789", min_size=1, max_size=12).filter(
    lambda word: word not in (".", "..")
)


@given(st.data())
def test_written_entries_are_read_back(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(TYPES)))
    fields = TYPES[kind]
    parts = data.draw(st.lists(_WORD, min_size=1, max_size=4))
    mode = data.draw(st.integers(0, 0o7777))
    words = ["/".join(parts), f"{mode:04o}", kind]
    arch = data.draw(st.sampled_from(["NATIVE", "COMPAT32"])) if fields.arch else None
    path, depth = "", None
    words += [arch] if arch else []
    if fields.path:
        path = data.draw(_WORD) + "/"
        words.append(path)
    elif fields.inherit:
        depth = data.draw(st.integers(0, len(parts) - 1))
        path = "".join(f"{part}/" for part in parts[:-1][depth:])
        words.append(f"INHERIT_PATH_DEPTH:{depth}")
    link = data.draw(_WORD) if fields.link else None
    words += [link] if link else []
    module = data.draw(st.none() | _WORD)
    words += [f"MODULE:{module}"] if module else []
    spaced = data.draw(st.sampled_from([" ", "\t", "  "])).join(words)
    file = "/".join(parts)
    assert entry(spaced) == ManifestEntry(file, mode, kind, arch, path, link, module, depth)


@given(st.text(max_size=300), st.booleans())
def test_any_text_parses_or_is_refused(text: str, header: bool) -> None:
    try:
        manifest = parse_manifest((HEADER if header else "") + text)
    except IntegrityError as error:
        assert ": line " in error.message
    else:
        assert all(".." not in found.file.split("/") for found in manifest.entries)
