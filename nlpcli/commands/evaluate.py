"""Measuring a fine-tuned model on labelled examples."""

from __future__ import annotations

import itertools
from collections.abc import Callable

from nlpcli.data.open_text import check_opens
from nlpcli.errors import NlpcliError
from nlpcli.runs.find_model import locate_task
from nlpcli.runs.finetuning.example_reading import Cuts, check_columns, read_labelled, warn_blank_texts
from nlpcli.runs.open_model import description_of, folder_of
from nlpcli.runs.task_evaluation import EvaluateRequest, Evaluation, _check_confusion, measure
from nlpcli.runs.task_model import columns_of, open_task, task_class


def evaluate(job: EvaluateRequest, *, notify: Callable[[str], None], warn: Callable[[str], None]) -> Evaluation:
    """Predicts every example and measures the predictions.

    Unknown labels are reported with their places and count as mistakes. Texts that are cut or missing are reported.

    Raises: NlpcliError for data that can't be read, with file and line, and for no data.
    """
    source = locate_task(job.model, notify=notify)
    parts = description_of(source).get("parts")
    if parts and job.part is None:
        raise NlpcliError(
            f"{folder_of(source)}: the model was trained on several tasks, so one must be chosen",
            hint=f"use --task {' or '.join(parts)}",
        )
    for name in job.data:
        check_opens(name)
    cuts = Cuts()
    task = task_class(source, job.part)
    check_columns(task, job.columns)
    _check_confusion(task, job)
    applied = open_task(source, device=job.device, threads=job.threads, part=job.part, on_cut=cuts)
    columns = columns_of(applied.loaded, job.columns, job.format)
    read = (read_labelled(applied.task, name, columns, warn, learnt=False) for name in job.data)
    examples = list(itertools.chain.from_iterable(read))
    if not examples:
        raise NlpcliError(f"{', '.join(job.data)}: the data contains no examples")
    warn_blank_texts(examples, warn)
    result = measure(applied, examples, job, warn=warn)
    cuts.report(warn)
    return result
