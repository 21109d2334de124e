"""Who is compared with whom, as people write it down: files of pairs and of chains."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeAlias

import pandas as pd

from calib_harness.errors import ArgumentError

PairsLike: TypeAlias = str | Path | pd.DataFrame | Iterable[Sequence[str]]
_PAIR_COLUMNS = ["family", "base", "aligned"]


def read_pairs(pairs: PairsLike) -> pd.DataFrame:
    """Read pairs from a CSV file, a frame or tuples.

    Parameters
    ----------
    pairs : str, Path, DataFrame or iterable of (family, base, aligned)
        A CSV file or frame needs the columns ``family``, ``base`` and ``aligned``; without
        ``family`` each pair is its own family.

    Returns
    -------
    DataFrame
        Columns ``family``, ``base``, ``aligned``.

    Raises
    ------
    UserError
        If the file cannot be read, a column is missing, a row lacks a model, a pair belongs to
        two families, or there is no pair.
    """
    frame = _as_frame(pairs, "pairs", _PAIR_COLUMNS)
    if not {"base", "aligned"} <= set(frame.columns):
        raise ArgumentError(
            f"pairs needs the columns family, base and aligned; got {_names_of(frame)}."
        )
    _check_filled(frame, "pairs", ["base", "aligned"])
    family = frame["family"] if "family" in frame.columns else frame["base"]
    frame = frame.assign(family=family.where(family != "", frame["base"]))
    frame = frame[_PAIR_COLUMNS].drop_duplicates().reset_index(drop=True)
    if frame.empty:
        raise ArgumentError("pairs holds no pair: give one line per pair (family,base,aligned).")
    again = frame[frame.duplicated(["base", "aligned"], keep=False)]
    if len(again):
        base, aligned = again.iloc[0][["base", "aligned"]]
        raise ArgumentError(
            f"pairs lists {base} / {aligned} under the families "
            f"{' and '.join(again['family'][again['base'] == base])}: give each pair one family."
        )
    return frame


def read_chain(chain: str | Path | pd.DataFrame) -> pd.DataFrame:
    """Read chains of stages (or of checkpoints) from a CSV file or frame.

    Returns
    -------
    DataFrame
        Columns ``family``, ``model``, ``stage`` (as text) and ``position``: the order along the
        chain, which is the number in ``step`` where that column is given, else the order of
        the lines within a family.

    Raises
    ------
    UserError
        If the file cannot be read, a column is missing, a row lacks a model, a step is no
        number, or no family has two stages.
    """
    frame = _as_frame(chain, "chain", ["family", "model", "stage"]).drop_duplicates()
    if "model" not in frame.columns or not {"stage", "step"} & set(frame.columns):
        raise ArgumentError(
            "chain needs the columns model, and stage or step (family and revision are "
            f"optional); got {_names_of(frame)}."
        )
    _check_filled(frame, "chain", ["model"])
    if "family" not in frame.columns:
        frame["family"] = frame["model"] if "step" in frame.columns else "all"
    if "revision" in frame.columns:
        named = frame["revision"] != ""
        frame["model"] = frame["model"].where(~named, frame["model"] + "@" + frame["revision"])
    if "step" in frame.columns:
        position = pd.to_numeric(frame["step"], errors="coerce")
        if position.isna().any():
            bad = frame["step"][position.isna()].iloc[0]
            raise ArgumentError(f"chain: every step must be a number; got {bad!r}.")
        frame["position"] = position
        if "stage" not in frame.columns:
            frame["stage"] = frame["step"]
    else:
        frame["position"] = frame.groupby("family", sort=False).cumcount()
    frame = frame.sort_values("position", kind="stable")
    if frame.groupby("family")["model"].nunique().max() < 2:
        raise ArgumentError("chain holds no family with at least two models.")
    columns = ["family", "model", "stage", "position"]
    return frame[columns].reset_index(drop=True)


def _as_frame(source: PairsLike, argument: str, columns: list[str]) -> pd.DataFrame:
    """Return a frame of text: a model may be called ``NA``, a revision ``007``."""
    if isinstance(source, pd.DataFrame):
        frame = source
    elif isinstance(source, (str, Path)):
        frame = _read_csv(source, argument)
    else:
        frame = pd.DataFrame(list(source), columns=columns)
    text = frame.astype(object).map(_text)
    return text.rename(columns=lambda name: str(name).strip())


def _read_csv(path: str | Path, argument: str) -> pd.DataFrame:
    try:
        return pd.read_csv(path, dtype=str, keep_default_na=False, skipinitialspace=True)
    except FileNotFoundError:
        raise ArgumentError(f"{argument} {path} does not exist.") from None
    except pd.errors.EmptyDataError:
        raise ArgumentError(f"{argument} {path} cannot be read as CSV (it is empty).") from None
    except UnicodeDecodeError as error:
        raise ArgumentError(
            f"{argument} {path} is not UTF-8 text: save it as CSV in UTF-8."
        ) from error
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise ArgumentError(f"{argument} {path} cannot be read as CSV ({why}).") from error


def _names_of(frame: pd.DataFrame) -> str:
    names = ", ".join(frame.columns)
    return f"{names}: separate columns by commas" if ";" in names or "\t" in names else names


def _text(cell: object) -> str:
    """Return a cell as it would be typed: no point in whole numbers, nothing for none."""
    if cell is None or cell is pd.NA or cell != cell:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def _check_filled(frame: pd.DataFrame, argument: str, columns: list[str]) -> None:
    for column in columns:
        empty = frame.index[frame[column] == ""]
        if len(empty):
            raise ArgumentError(
                f"{argument}: row {empty[0] + 1} below the heading has no {column}; name a model "
                "in every row."
            )
