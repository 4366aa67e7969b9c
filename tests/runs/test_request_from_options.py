"""From the options of a training command to what is trained."""

from __future__ import annotations

from nlpcli.runs.request_from_options import finetuning_request


def test_a_file_that_names_a_task_and_no_data_takes_the_sample_of_the_task(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("extends: bert-nano\ntask: classify\n")
    notes = []
    request = finetuning_request({"config": file}, command="nlpcli finetune", notify=notes.append)
    assert "sentence-type/train.tsv.gz" in request.settings["data"]["train"][0]
    assert any("sample data" in note for note in notes)
