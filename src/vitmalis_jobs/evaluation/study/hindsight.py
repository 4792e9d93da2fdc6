"""The best fixed configurations of a study in hindsight: what no choice made before the runs could exceed.

A sweep of `policy=fixed` over configurations (experiment=fixed) has one variant of the policy for each. A report shows
three choices among them instead: the best of each pair of clip and trace, of each clip, and of the whole study. All are
chosen by the F1 that they are then shown with, so they are bounds and no policies that could be run.
"""

from __future__ import annotations

import pandas as pd

FIXED = "fixed"
BEST_OF_PAIR, BEST_OF_CLIP, BEST_OF_ALL = (f"{FIXED} (best of the {scope})" for scope in ("pair", "clip", "study"))
_PAIR = ["clip", "trace"]
_METRIC = "rendering_f1"


def configurations(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of `policy=fixed` that name their configuration; empty unless there are several configurations."""
    found = runs[runs["policy"].map(_names_configuration)] if _METRIC in runs else runs.head(0)
    return found if found["policy"].nunique() > 1 else found.head(0)


def with_hindsight(runs: pd.DataFrame) -> pd.DataFrame:
    """The runs of a study with the best fixed configurations in hindsight in place of all fixed configurations."""
    swept = configurations(runs)
    if swept.empty:
        return runs
    kept = runs.drop(swept.index)
    defaults = kept["policy"].str.startswith(f"{FIXED} (policy.")
    kept = kept.assign(policy=kept["policy"].mask(defaults, FIXED))
    choices = choose(swept).melt(_PAIR, [BEST_OF_PAIR, BEST_OF_CLIP, BEST_OF_ALL], "shown", "policy").dropna()
    best = choices.merge(swept, on=[*_PAIR, "policy"])
    best = best.assign(policy=best["shown"], configuration=best["shown"]).drop(columns="shown")
    return pd.concat([kept, best], ignore_index=True)


def choose(swept: pd.DataFrame) -> pd.DataFrame:
    """For each pair of clip and trace, the fixed configuration that is best of the pair, the clip and the study.

    The best of a clip or of the study has the highest mean over pairs, each clip counting alike in the study. Only
    configurations that were played on all of these pairs take part, and of equals the first by name.

    Returns:
        Columns clip, trace and `BEST_OF_PAIR`, `BEST_OF_CLIP`, `BEST_OF_ALL` with names of variants.
    """
    table = swept.pivot_table(index=_PAIR, columns="policy", values=_METRIC, aggfunc="last")
    of_clips = means_by_clip(table)
    clips = table.index.get_level_values("clip")
    best = pd.DataFrame({BEST_OF_PAIR: table.idxmax(axis=1)})
    best[BEST_OF_CLIP] = [_best(of_clips.loc[clip]) for clip in clips]
    best[BEST_OF_ALL] = _best(of_clips.mean(skipna=False))
    return best.reset_index()


def table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row for each pair of clip and trace: the configurations that were best, and their rendering F1."""
    swept = configurations(runs)
    if swept.empty:
        return pd.DataFrame()
    choices = choose(swept)
    f1 = swept.drop_duplicates([*_PAIR, "policy"], keep="last").set_index([*_PAIR, "policy"])[_METRIC]
    columns = {name: choices[name] for name in _PAIR}
    for title, name in (("pair", BEST_OF_PAIR), ("clip", BEST_OF_CLIP), ("study", BEST_OF_ALL)):
        places = pd.MultiIndex.from_frame(choices[[*_PAIR, name]])
        columns[f"best of the {title}"] = choices[name].map(_short, na_action="ignore")
        columns[f"its F1, {title}"] = pd.Series(f1.reindex(places).to_numpy())
    return pd.DataFrame(columns)


def means_by_clip(table: pd.DataFrame) -> pd.DataFrame:
    """Mean of each configuration (columns) over the traces of each clip; NaN where a pair is missing."""
    return table.groupby(level="clip").agg(_complete_mean)


def _complete_mean(values: pd.Series) -> float:
    return float(values.mean(skipna=False))


def _best(means: pd.Series) -> str | None:
    """Name of the highest mean; None if no configuration has one."""
    known = means.dropna()
    return str(known.idxmax()) if len(known) else None


def _short(variant: str) -> str:
    """Options of a variant without the section's name."""
    return variant.removeprefix(f"{FIXED} (").removesuffix(")").replace("policy.", "")


def _names_configuration(variant: str) -> bool:
    """Whether a variant is `policy=fixed` with some option of the policy given."""
    options = variant.removeprefix(f"{FIXED} (").split(", ") if variant.startswith(f"{FIXED} (") else []
    return any(option.startswith("policy.") and not option.rstrip(")").endswith("=default") for option in options)
