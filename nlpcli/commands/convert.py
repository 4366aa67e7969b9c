"""Exchange with Hugging Face and with files of word vectors: a model folder in either form, out of one in either."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from nlpcli.config.files import new_directory, real_path
from nlpcli.config.temporary_files import is_free
from nlpcli.convert.sentence_transformers_in import sentence_settings
from nlpcli.errors import NlpcliError, unknown
from nlpcli.models.model_folder import DESCRIPTION, WEIGHTS, LoadedModel, read_info
from nlpcli.runs.open_model import is_huggingface, open_model

OURS, HUGGINGFACE, ONNX, CTRANSLATE2, WORD2VEC = "nlpcli", "huggingface", "onnx", "ctranslate2", "word2vec"
FORMS = (HUGGINGFACE, OURS, ONNX, CTRANSLATE2, WORD2VEC)
SYNONYMS = {**dict.fromkeys(("hf", "transformers", "hugging-face"), HUGGINGFACE), "ct2": CTRANSLATE2}


@dataclass(frozen=True)
class Conversion:
    """From the folder `source` to the folder `out`, in the form `to`; None: in the form that `source` doesn't have.

    source may be a file of word vectors; with `to` word2vec, out is one.
    max_length, attention: changes of the model (`nlpcli.models.context_extension`), which is then in our format unless
    `to` names another one.
    quantization: of the weights of a graph in the ONNX format, see `nlpcli.runs.onnx.folder`, or of a folder for
    CTranslate2.
    allow_pickle: read a `pytorch_model.bin`; only its tensors are taken. overwrite: replace a model in `out`.
    """

    source: Path
    out: Path
    to: str | None = None
    allow_pickle: bool = False
    overwrite: bool = False
    max_length: int | None = None
    attention: tuple[str, ...] = ()
    quantization: str | None = None

    @property
    def changes(self) -> bool:
        """Whether the model is changed, and not only its form."""
        return self.max_length is not None or bool(self.attention)


@dataclass(frozen=True)
class Converted:
    """model: the kind of ours, or the name of its class there. left_out: weights that have no place there. note: what
    the model can do that the other form can't, as a sentence; empty where there is nothing."""

    out: Path
    form: str
    model: str
    parameters: int
    vocab_size: int
    left_out: list[str]
    note: str = ""


def convert(job: Conversion) -> Converted:
    """Writes `out`, whole or not at all.

    Raises: NlpcliError for a folder that is in use or no model, and for what the other form can't express.
    """
    from nlpcli.models.build import count_parameters

    theirs = is_huggingface(job.source) or job.source.is_file()
    form = SYNONYMS.get((job.to or "").lower(), job.to) or (OURS if theirs or job.changes else HUGGINGFACE)
    if form not in FORMS:
        raise unknown("value of --to", form, FORMS)
    if job.quantization is not None and form not in (ONNX, CTRANSLATE2):
        raise NlpcliError(
            f"--quantization has no effect on the format {form}",
            hint="add --to onnx or --to ctranslate2, or leave the option out",
        )
    if not theirs:
        read_info(job.source)  # what is not a model is refused before anything else
    if form == WORD2VEC:
        if job.changes:
            raise NlpcliError("--max-length and --attention have no effect on a file of word vectors")
        return _vectors_file(job)
    replace = _may_replace(job)
    if form == ONNX:
        return _onnx_folder(job, replace)
    loaded = open_model(job.source, allow_pickle=job.allow_pickle, needs_tokenizer=False)
    if job.changes:
        from nlpcli.models.context_extension import with_length_and_attention

        loaded = with_length_and_attention(loaded, max_length=job.max_length, attention=job.attention)
    with new_directory(job.out, replace=replace) as folder:
        model = _write(folder, form, loaded, job)
    return Converted(
        out=job.out,
        form=form,
        model=model,
        parameters=count_parameters(loaded.model),
        vocab_size=loaded.vocab_size,
        left_out=loaded.info.get("left_out", []),
    )


def _write(folder: Path, form: str, loaded: LoadedModel, job: Conversion) -> str:
    """Writes a model in a form; returns its kind, or the name of its class there."""
    from nlpcli.models.model_folder import save_model, unshared

    if form == CTRANSLATE2:
        from nlpcli.convert.ctranslate2_out import write_ctranslate2

        return write_ctranslate2(
            folder, config=loaded.config, weights=loaded.model.state_dict(), tokenizer=loaded.tokenizer,
            info=loaded.info, quantization=job.quantization,
        )  # fmt: skip
    info = {name: value for name, value in loaded.info.items() if name not in _WRITTEN_ANEW}
    weights = unshared(loaded.model.state_dict())
    if form == HUGGINGFACE:
        from nlpcli.convert.huggingface_out import write_huggingface

        return write_huggingface(
            folder, config=loaded.config.model_dump(), weights=weights, tokenizer=loaded.own_tokenizer,
            info=info, layout=_layout(loaded),
        )  # fmt: skip
    save_model(
        folder, weights=weights, config=loaded.config, tokenizer=loaded.own_tokenizer,
        info=info if loaded.own_tokenizer else {**info, "vocab_size": loaded.vocab_size},
        source_tokenizer=loaded.source_tokenizer,
    )  # fmt: skip
    return loaded.config.kind


def _vectors_file(job: Conversion) -> Converted:
    from nlpcli.convert.word2vec_text import write_token_vectors

    if job.out.is_dir():
        raise NlpcliError(f"{job.out} is a folder, but the vectors are written to a file", hint="name a file")
    if job.out.exists() and not job.overwrite:
        raise NlpcliError(f"{job.out} already exists", hint="name another file, or add --overwrite to replace it")
    loaded = open_model(job.source, allow_pickle=job.allow_pickle)
    weight = loaded.model.body.token_embedding.weight.detach()
    count = write_token_vectors(job.out, weight, loaded.tokenizer)
    return Converted(job.out, WORD2VEC, "word vectors", weight.size(1) * count, count, [])


def _onnx_folder(job: Conversion, replace: bool) -> Converted:
    """Vectors of texts are made as `nlpcli embed` makes them of the model in `source`."""
    from nlpcli.models.build import count_parameters
    from nlpcli.runs.onnx.folder import check_quantization, write_onnx

    check_quantization(job.quantization)
    if job.changes:
        raise NlpcliError(
            "--max-length and --attention have no effect on the ONNX format",
            hint="change the model first: nlpcli convert --to nlpcli",
        )
    if job.source.is_file():
        raise NlpcliError(f"{job.source} contains word vectors, which can't be exported to ONNX")
    sentence = sentence_settings(job.source)
    loaded = open_model(job.source, allow_pickle=job.allow_pickle)
    with new_directory(job.out, replace=replace) as folder:
        write_onnx(
            folder, loaded, pooling=sentence.pooling, normalize=sentence.normalize,
            vector_length=sentence.max_length, quantization=job.quantization,
        )  # fmt: skip
    parameters, note = count_parameters(loaded.model), _without_decoding(loaded)
    return Converted(job.out, ONNX, loaded.config.kind, parameters, loaded.vocab_size, [], note)


def _without_decoding(loaded: LoadedModel) -> str:
    """The abilities of a model that its graph lacks."""
    from nlpcli.runs.find_model import TRANSLATION

    if loaded.model.body.direction == "both" or loaded.model.task_heads():
        return ""
    translates = loaded.info.get("task") == TRANSLATION
    text = f"the graph gives only vectors of texts and can't {'translate' if translates else 'generate text'}"
    faster = "; to translate in less time, use --to ctranslate2"
    return f"{text}{faster if translates else ''}"


_WRITTEN_ANEW = ("nlpcli", "model", "vocab_size", "tokenizer", "source_tokenizer", "sha256", "left_out")


def _layout(loaded: LoadedModel) -> dict[str, Any] | None:
    """Where special tokens stand in what a fine-tuned model reads, None for any other model."""
    if not loaded.info.get("head") or loaded.own_tokenizer is None:
        return None
    from nlpcli.tasks.input_layout import Layout

    return asdict(Layout.of(loaded.config, loaded.tokenizer.special, loaded.info))


def _may_replace(job: Conversion) -> bool:
    """Whether something stands in `out` that may be replaced: an empty folder, or a model if that is requested."""
    if not job.out.exists():
        return False
    if not job.out.is_dir():
        raise NlpcliError(f"{job.out} is a file, not a folder", hint="name another folder")
    if real_path(job.out) == real_path(job.source):
        raise NlpcliError(f"{job.out} is the folder of the model itself", hint="name another folder")
    if is_free(job.out):
        return True
    if not job.overwrite:
        raise NlpcliError(
            f"{job.out} is not empty", hint="name another folder, or add --overwrite to replace the model"
        )
    from nlpcli.convert.folder_files import CTRANSLATE2_WEIGHTS

    theirs = is_huggingface(job.out) and any((job.out / name).exists() for name in (WEIGHTS, CTRANSLATE2_WEIGHTS))
    if not (job.out / DESCRIPTION).exists() and not theirs:
        raise NlpcliError(
            f"--overwrite replaces only a model, but {job.out} contains something else", hint="name another folder"
        )
    return True
