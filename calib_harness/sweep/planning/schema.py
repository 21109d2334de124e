"""What a sweep's YAML may say: every key, its type and its limits.

A field's description completes the sentence "expected ..." in error messages. Reading a file and
turning mistakes into sentences is :mod:`calib_harness.sweep.planning.reading`'s work; turning a
spec into runs is :mod:`calib_harness.sweep.planning.plan`'s.
"""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    model_validator,
)

from calib_harness.sweep.planning.secrets import looks_secret, secret_key
from calib_harness.text import visible

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BYTES |= {"KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
# More steps than this are a slip (`by` left at 1), which would take hours only to plan.
_MOST_STEPS = 100_000
# Arguments of lm-eval's models that have a key of their own here.
_OWN_KEYS = ("revision", "dtype", "batch_size", "max_batch_size", "device", "trust_remote_code")


# Variables that make a process load or trust code that its command does not name.
_LOADS_CODE = re.compile(
    r"PATH$|HOME$|SHELL$|ENV$|BASH_ENV$|LD_|DYLD_|.*PRELOAD|GIT_|PERL|NODE_|CC$|CXX$|CUDA_HOME$|"
    r"PYTHON(?!(HASHSEED|UNBUFFERED|UTF8|IOENCODING|FAULTHANDLER)$)|.*TRUST_REMOTE_CODE|"
    r".*_PLUGINS?$|HF_MODULES_CACHE$|TORCH_EXTENSIONS_DIR$|TORCHINDUCTOR_|TRITON_"
)


def _in_base_units(value: object, units: dict[str, Any]) -> float:
    """Return a number with a unit in base units; ValueError for anything else."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
        return float(value)
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(value))
    if match is None or match[2] not in units:
        raise ValueError("not a number with a unit")
    return float(match[1]) * float(units[match[2]])


def _seconds(value: object) -> float:
    return _in_base_units(value, _SECONDS)


def _bytes(value: object) -> int:
    return int(_in_base_units(value, _BYTES))


def _as_list(value: object) -> object:
    return value if isinstance(value, list) else [value]


def _number_as_text(value: object) -> object:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return str(value) if is_number else value


def _plain_name(value: str) -> str:
    """Accept what can never be taken for an option of the command that is started."""
    if not re.fullmatch(r"[A-Za-z0-9_.~/].*", value):
        raise ValueError("begins with a character no name begins with")
    return _one_line(value)


def _one_line(value: str) -> str:
    """Accept what can be shown to people as it is: no control characters, no line breaks."""
    if visible(value) != value or set(value) & set("\t\n"):
        raise ValueError("holds control characters")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
Bytes = Annotated[int, BeforeValidator(_bytes), Field(gt=0)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Natural = Annotated[int, Field(ge=0)]
Positive = Annotated[int, Field(ge=1)]
Name = Annotated[str, Field(min_length=1), AfterValidator(_plain_name)]
# lm-eval takes tasks as one text with commas between them.
TaskNames = Annotated[list[Annotated[Name, Field(pattern="^[^,]*$")]], Field(min_length=1)]
Label = Annotated[str, AfterValidator(_one_line)]
Names = Annotated[list[Name], Field(min_length=1)]
Variable = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Backend = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Shots = Annotated[list[Natural], BeforeValidator(_as_list), Field(min_length=1)]
ChatTemplate = Annotated[list[bool | Name], BeforeValidator(_as_list), Field(min_length=1)]
FourSeeds = Annotated[list[Natural | None], Field(min_length=4, max_length=4)]
AutoBatch = Annotated[str, Field(pattern=r"^auto(:\d+)?$")]

# What a run fills in: the port of its server, the address under which it is asked.
SERVER_ADDRESS = "{server}"
Server = Annotated[str, Field(pattern=r"^[^\n]*\{port\}[^\n]*$")]

_DURATION = "a positive number of seconds, or one with a unit such as 90s, 30m or 2h"


def _optional(expected: str) -> Any:
    """Declare a key that may be left out; `expected` says what it takes."""
    return Field(default=None, description=expected)


class Section(BaseModel):
    """Base of all parts of a spec: an unknown key is a mistake, never ignored."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class Resources(Section):
    """What one run needs; the executors reserve it."""

    gpus: Annotated[Finite, Field(ge=0)] | None = _optional("a number of GPUs, at least 0")
    cpus: Annotated[Finite, Field(gt=0)] | None = _optional("a number of CPU cores above 0")
    memory: Bytes | None = _optional("a size such as 500MB or 24GiB")

    @model_validator(mode="after")
    def _whole_gpus(self) -> Resources:
        if self.gpus is not None and self.gpus > 1 and self.gpus % 1:
            raise ValueError(f"expected a whole number of GPUs above 1, got {self.gpus}")
        return self


class Settings(Section):
    """What `defaults` may hold and every model may override. None means: not said here."""

    backend: Backend | None = _optional("the name of one of lm-eval's models, such as hf or vllm")
    dtype: str | None = _optional("the name of a number type, such as float32 or bfloat16")
    batch_size: Positive | AutoBatch | None = _optional("a whole number above 0, auto or auto:N")
    max_batch_size: Positive | None = _optional("a whole number above 0")
    num_fewshot: Shots | None = _optional("a whole number from 0 up, or a list of them")
    limit: Annotated[Finite, Field(gt=0)] | None = _optional(
        "a number of questions per task above 0"
    )
    seed: Natural | FourSeeds | None = _optional("a whole number from 0 up, or four of them")
    device: Annotated[str, Field(pattern=r"^[a-z]+(:\d+)?$")] | None = _optional(
        "the name of a device, such as cpu or cuda"
    )
    apply_chat_template: ChatTemplate | None = _optional(
        "true, false, the name of a template, or a list of these"
    )
    fewshot_as_multiturn: bool | None = _optional("true or false")
    system_instruction: str | None = _optional("a text")
    trust_remote_code: bool | None = _optional("true or false")
    model_args: dict[str, Any] = Field(
        default={}, description="a mapping of the backend's arguments to their values"
    )
    metadata: dict[str, Any] = Field(default={}, description="a mapping, as lm-eval's --metadata")
    server: Server | None = _optional(
        "a command that serves the model, with {port} where its port belongs"
    )
    resources: Resources = Field(default=Resources(), description="a mapping: gpus, cpus, memory")
    time_limit: Seconds | None = _optional(_DURATION)

    @model_validator(mode="after")
    def _arguments_have_no_back_door(self) -> Settings:
        for key in self.model_args:
            if key in _OWN_KEYS:
                raise ValueError(f"write {key} as a key of its own, beside model_args")
        for name in ("model_args", "metadata"):
            if secret := secret_key(getattr(self, name)):
                raise ValueError(
                    f"{name} holds a secret ({secret}); export it in the shell and list the "
                    "variable's name under environment.pass instead"
                )
        return self


class Steps(Section):
    """Training steps from `start` to `stop`, both included, every `by`."""

    start: Natural = Field(default=0, description="a whole number from 0 up")
    stop: Natural = Field(description="a whole number from 0 up")
    by: Positive = Field(description="a whole number above 0")

    @model_validator(mode="after")
    def _forward(self) -> Steps:
        if self.stop < self.start:
            raise ValueError(f"stop ({self.stop}) lies before start ({self.start})")
        if (number := 1 + (self.stop - self.start) // self.by) > _MOST_STEPS:
            raise ValueError(
                f"expected at most {_MOST_STEPS:,} steps, got {number:,}; raise `by` ({self.by})"
            )
        return self


class ModelEntry(Settings):
    """One model, or one model's revisions."""

    id: Name = Field(description="a model's Hub id, or a path that begins with ./, ../, ~ or /")
    family: Label | None = _optional("a text in one line")
    stage: Label | None = _optional("a text such as base, sft, dpo or aligned")
    revisions: Names | None = _optional("a list of branches, tags or commits")
    steps: Steps | Annotated[list[Natural], Field(min_length=1)] | None = _optional(
        "a list of training steps, or a mapping: start, stop, by"
    )
    revision_format: Name = Field(
        default="step{step}", description="a text in which {step} stands for the step"
    )
    tasks: TaskNames | None = _optional("a list of task names")

    @model_validator(mode="after")
    def _one_way_to_name_revisions(self) -> ModelEntry:
        if self.revisions is not None and self.steps is not None:
            raise ValueError("give either revisions or steps, not both")
        rest = self.revision_format.replace("{step}", "")
        if rest == self.revision_format or set(rest) & set("{}"):
            raise ValueError("revision_format must hold {step} and no other braces")
        return self


class Environment(Section):
    """Variables of the runs: `set` holds plain values, `pass` names those that must be there."""

    set: dict[Variable, Annotated[str, BeforeValidator(_number_as_text)]] = Field(
        default={}, description="a mapping of variable names to texts or numbers"
    )
    passed: list[Variable] = Field(default=[], alias="pass", description="a list of variable names")

    @model_validator(mode="after")
    def _neither_secrets_nor_code(self) -> Environment:
        for name in self.set:
            if looks_secret(name):
                raise ValueError(
                    f"set holds a secret ({name}); export it in the shell and list the name "
                    "under environment.pass instead"
                )
            if _LOADS_CODE.match(name):
                raise ValueError(
                    f"set holds {name}, by which code can be loaded; export it in the shell instead"
                )
        return self


class Execution(Section):
    """How runs are carried out; nothing here can change a number."""

    executor: Literal["local", "ray"] = Field(default="local", description="local or ray")
    workers: Positive | None = _optional("a whole number above 0")
    retries: Natural = Field(default=2, description="a whole number from 0 up")
    backoff: Seconds = Field(default=10.0, description=_DURATION)
    max_backoff: Seconds = Field(default=600.0, description=_DURATION)
    scratch: Name | None = _optional("a folder on the machine that carries out a run")
    address: str | None = _optional("the address of a Ray cluster, such as auto")

    @model_validator(mode="after")
    def _address_of_something(self) -> Execution:
        if self.address is not None and self.executor != "ray":
            raise ValueError(f"address ({self.address}) needs executor: ray")
        return self


class Spec(Section):
    """One sweep."""

    output: Name = Field(description="a folder, or the URL of one such as s3://bucket/sweep")
    tasks: TaskNames = Field(description="a list of task names")
    models: Annotated[list[ModelEntry], Field(min_length=1)] = Field(description="a list of models")
    include_path: Name | None = _optional("a folder with task YAMLs")
    working_dir: Name | None = _optional("the folder that runs start in")
    defaults: Settings = Field(default=Settings(), description="a mapping of settings")
    environment: Environment = Field(default=Environment(), description="a mapping: set, pass")
    execution: Execution = Field(
        default=Execution(), description="a mapping: executor, workers, retries, ..."
    )
