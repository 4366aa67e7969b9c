from __future__ import annotations

import gzip
import os
import subprocess

import pytest

from nlpcli.data.parallel_shards import ParallelShards
from nlpcli.errors import NlpcliError

SOURCE = ["the cat sat", "", "it rained", "a mat"]
TARGET = ["cat the", "and then", "", "words"]


def write(path, lines):
    path.write_text("".join(line + "\n" for line in lines))
    return path


def test_pairs_are_the_encoded_lines(tmp_path, pieces, characters):
    corpus = ParallelShards.build(
        write(tmp_path / "a.en", SOURCE), write(tmp_path / "a.de", TARGET), pieces, target_tokenizer=characters
    )
    ids = list(zip(pieces.encode(SOURCE), characters.encode(TARGET), strict=True))
    assert len(corpus) == 4
    assert [tuple(side.tolist() for side in corpus.pair(index)) for index in range(4)] == ids
    assert corpus.lengths.tolist() == [[len(source), len(target)] for source, target in ids]


def test_several_files_are_one_corpus(tmp_path, pieces):
    sources = [write(tmp_path / "a.en", SOURCE), write(tmp_path / "b.en", SOURCE[:2])]
    targets = [write(tmp_path / "a.de", TARGET), write(tmp_path / "b.de", TARGET[:2])]
    corpus = ParallelShards.build(sources, targets, pieces)
    assert len(corpus) == 6
    assert [side.tolist() for side in corpus.pair(4)] == [side.tolist() for side in corpus.pair(0)]


def test_an_equal_corpus_has_an_equal_fingerprint(tmp_path, pieces):
    source, target = write(tmp_path / "a.en", SOURCE), write(tmp_path / "a.de", TARGET)
    one, other = ParallelShards.build(source, target, pieces), ParallelShards.build(target, source, pieces)
    assert one.fingerprint == ParallelShards.build(source, target, pieces).fingerprint != other.fingerprint


def test_unequal_numbers_of_lines_are_refused_with_both(tmp_path, pieces):
    (tmp_path / "a.en.gz").write_bytes(gzip.compress(b"a\nb"))
    with pytest.raises(NlpcliError, match=r"the numbers of lines differ: .*a\.en\.gz has 2 lines, but .*a\.de has 4"):
        ParallelShards.build(tmp_path / "a.en.gz", write(tmp_path / "a.de", TARGET), pieces)


@pytest.mark.processes
def test_pipes_are_read_once_and_compared_too(tmp_path, pieces):
    for lines in (SOURCE, SOURCE[:3]):
        os.mkfifo(tmp_path / "pipe")
        target = write(tmp_path / "a.de", TARGET)
        with subprocess.Popen(
            ["sh", "-c", f"printf '{'x' + chr(92) + 'n'}%.0s' $(seq {len(lines)}) > {tmp_path}/pipe"]
        ):
            if len(lines) == 4:
                assert len(ParallelShards.build(tmp_path / "pipe", target, pieces)) == 4
            else:
                with pytest.raises(NlpcliError, match=r"pipe has 3 lines, but .*a\.de has 4"):
                    ParallelShards.build(tmp_path / "pipe", target, pieces)
        (tmp_path / "pipe").unlink()


def test_unequal_files_that_add_up_are_refused_too(tmp_path, pieces):
    one, two = write(tmp_path / "1", SOURCE), write(tmp_path / "2", SOURCE[:3])
    with pytest.raises(NlpcliError, match=r"has 4 lines, but .* has 3"):
        ParallelShards.build([one, two], [two, one], pieces)


def test_a_missing_target_file_is_refused(tmp_path, pieces):
    path = write(tmp_path / "1", SOURCE)
    with pytest.raises(NlpcliError, match="the source side has 2 files, but the target side has 1"):
        ParallelShards.build([path, path], path, pieces)


def test_two_sets_that_are_not_aligned_are_refused(tmp_path, pieces):
    corpus = ParallelShards.build(write(tmp_path / "a", SOURCE), write(tmp_path / "b", TARGET), pieces)
    with pytest.raises(NlpcliError, match="the numbers of lines differ"):
        ParallelShards(corpus.source, corpus.target.slice_documents(0, 3))
