"""`lt-eval judge`: start a judge server, check that the judge is any good, estimate what judging costs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lt_eval.cli.base import given, resumable, say

if TYPE_CHECKING:
    from lt_eval.judge.check import CheckResult
    from lt_eval.judge.options import JudgeOptions
    from lt_eval.judge.preflight import Preflight
    from lt_eval.records import Conversation

judge_app = typer.Typer(help="The multi-round judge: serve it, check it, estimate its cost.", no_args_is_help=True)

Server = Annotated[str | None, typer.Option(help="Addresses of judge servers, by commas; default port 8000 here.")]
ModelName = Annotated[str | None, typer.Option(help="Name under which the server serves the judge.")]
KeyEnv = Annotated[str | None, typer.Option(help="Environment variable that holds the server's key.")]
Frames = Annotated[str | None, typer.Option(help="portable (2 a second at most) or paper (32 whatever the length).")]
Scoring = Annotated[str | None, typer.Option(help="boxed, or two-step with probabilities.")]
Repeats = Annotated[int | None, typer.Option(help="Judgments of each dimension.")]
Prompts = Annotated[Path | None, typer.Option(help="Folder of rubric files of your own.")]
Settings = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any option of the judge, docs/judge.md.")
]


@judge_app.command("serve")
def serve(
    model: Annotated[str, typer.Argument(help="Hugging Face id or local folder; default the paper's judge.")] = "",
    vllm: Annotated[str, typer.Option(help="The `vllm` command of its own environment.")] = "",
    python: Annotated[str, typer.Option(help="Or the interpreter of that environment.")] = "",
    host: Annotated[str, typer.Option(help="Address to listen at.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen at.")] = 8000,
    frames: Annotated[str, typer.Option(help="As in judging: portable or paper.")] = "portable",
    videos: Annotated[int, typer.Option(help="Most videos in one conversation.")] = 8,
    max_model_len: Annotated[int, typer.Option(help="Tokens of one conversation; about 9500 a turn.")] = 98_304,
    tensor_parallel: Annotated[int, typer.Option(help="GPUs for one copy of the model.")] = 1,
    served_name: Annotated[str, typer.Option(help="Name under which to serve it.")] = "",
    media_folder: Annotated[str, typer.Option(help="Allow file:// clips below this folder.")] = "",
    extra: Annotated[list[str] | None, typer.Option(help="A further argument of vLLM, as it is.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print the command and stop.")] = False,
) -> None:
    """Start vLLM, installed in an environment of its own, with the flags that judging needs."""
    from lt_eval.errors import SpecError
    from lt_eval.judge.options import FRAMES_MODES
    from lt_eval.judge.serve import PAPER_MODEL, ServeOptions, serve_command, start

    if frames not in FRAMES_MODES:
        raise SpecError(f"--frames {frames}: one of {', '.join(FRAMES_MODES)}.")
    options = ServeOptions(
        model=model or PAPER_MODEL,
        vllm=vllm,
        python=python,
        host=host,
        port=port,
        frames="paper" if frames == "paper" else "portable",
        videos=videos,
        max_model_len=max_model_len,
        tensor_parallel=tensor_parallel,
        served_name=served_name,
        media_folder=media_folder,
        extra=tuple(extra or ()),
    )
    command = serve_command(options, here=not dry_run)
    if dry_run:
        print(shlex.join(command))
        return
    say(shlex.join(command))
    start(command)


@judge_app.command("check")
@resumable
def check(
    run: Annotated[
        Path | None, typer.Argument(help="A run of `lt-eval multiround`; without it only the server is looked at.")
    ] = None,
    server: Server = None,
    model: ModelName = None,
    api_key_env: KeyEnv = None,
    frames: Frames = None,
    scoring: Scoring = None,
    repeats: Repeats = None,
    prompts: Prompts = None,
    limit: Annotated[int, typer.Option(help="Only so many of the run's conversations.")] = 10,
    setting: Settings = None,
) -> None:
    """Prove that the server keeps all frames and sees them; then spoil conversations and see the scores fall."""
    from lt_eval.judge.check import check_judge
    from lt_eval.judge.preflight import preflight
    from lt_eval.judge.replies import ReplyStore
    from lt_eval.paths import cache_dir
    from lt_eval.progress import Progress

    options = _options(setting, server, model, api_key_env, frames, scoring, repeats, prompts)
    conversations = _conversations(run) if run else ()
    whole = [item for item in conversations if item.failure is None and all(turn.video for turn in item.turns)]
    found = preflight(options, whole[0] if whole else None)
    _print_preflight(found)
    if found.problems:
        raise typer.Exit(1)
    if run is None:
        return
    with Progress() as progress, ReplyStore(run / "judge-check" / "replies.sqlite") as replies:
        results = check_judge(whole[:limit], options, replies, cache_dir() / "judge-check", progress)
    if not _print_checks(results):
        raise typer.Exit(1)


@judge_app.command("estimate")
def estimate_(
    run: Annotated[Path | None, typer.Argument(help="A run whose conversations are to be judged.")] = None,
    scenarios: Annotated[int, typer.Option(help="Without a run: scenarios ...")] = 100,
    methods: Annotated[int, typer.Option(help="... of so many methods ...")] = 3,
    turns: Annotated[int, typer.Option(help="... with so many turns ...")] = 3,
    seconds: Annotated[float, typer.Option(help="... of so many seconds each.")] = 10.0,
    answer_tokens: Annotated[int, typer.Option(help="Length of one reply.")] = 220,
    prefill_per_s: Annotated[float | None, typer.Option(help="Prompt tokens a second of all servers.")] = None,
    decode_per_s: Annotated[float | None, typer.Option(help="Answer tokens a second of all servers.")] = None,
    frames: Frames = None,
    scoring: Scoring = None,
    repeats: Repeats = None,
    prompts: Prompts = None,
    setting: Settings = None,
) -> None:
    """Print requests, tokens and hours of a run of the judge, before they are spent."""
    from lt_eval.judge.canonical import ClipRules
    from lt_eval.judge.estimate import estimate, shape_of, typical_shape

    options = _options(setting, None, None, None, frames, scoring, repeats, prompts)
    rules = ClipRules.of(options)
    if run:
        read = _conversations(run)
        shapes = [shape for item in read if (shape := shape_of(item, rules)) is not None]
        if len(shapes) < len(read):
            say(f"{len(read) - len(shapes)} of {len(read)} conversations lack a video and are not judged.")
    else:
        shapes = [typical_shape(rules, turns, seconds)] * (scenarios * methods)
    cost = estimate(
        shapes, options, answer_tokens=answer_tokens, prefill_per_s=prefill_per_s, decode_per_s=decode_per_s
    )
    print(f"conversations         {cost.conversations}")
    print(f"requests              {cost.requests}")
    print(f"prompt tokens         {cost.prompt_tokens:,}")
    print(f"  of them to compute  {cost.computed_tokens:,} with a prefix cache")
    print(f"answer tokens         {cost.answer_tokens:,}")
    print(f"longest request       {cost.longest:,} tokens: --max-model-len of the server must hold it")
    if cost.hours is None:
        say("For hours, give --prefill-per-s and --decode-per-s, as `vllm bench serve` measures them.")
    else:
        print(f"hours                 {cost.hours:.2f}")


def _conversations(run: Path) -> tuple[Conversation, ...]:
    from lt_eval.conversations import CONVERSATIONS, read_conversations
    from lt_eval.errors import DatasetError

    found = read_conversations(run)
    if not found:
        raise DatasetError(
            f"{run}: holds no conversation ({CONVERSATIONS}). Name the folder of a run of `lt-eval multiround`."
        )
    return found


def _options(
    settings: list[str] | None,
    server: str | None,
    model: str | None,
    api_key_env: str | None,
    frames: str | None,
    scoring: str | None,
    repeats: int | None,
    prompts: Path | None,
) -> JudgeOptions:
    from dataclasses import fields

    from lt_eval.errors import SpecError
    from lt_eval.judge.options import JudgeOptions
    from lt_eval.registry import suggestion
    from lt_eval.spec import merge, parse_setting

    tables: dict[str, Any] = {}
    for text in settings or []:
        tables = merge(tables, parse_setting(text))
    flags = {"servers": server, "model": model, "api_key_env": api_key_env, "frames": frames, "scoring": scoring}
    flags |= given({"repeats": repeats, "prompts": str(prompts) if prompts else None})
    chosen = merge(tables, given(flags))
    known = {field.name: field.default for field in fields(JudgeOptions)}
    for key, value in chosen.items():
        if key not in known:
            raise SpecError(f"--set {key}: the judge has no such option.{suggestion(key, list(known))}")
        if key in ("servers", "dimensions"):
            chosen[key] = value if isinstance(value, str) else tuple(value)
        elif isinstance(known[key], float) and isinstance(value, int) and not isinstance(value, bool):
            chosen[key] = float(value)
        elif type(value) is not type(known[key]):
            raise SpecError(f"--set {key}={value}: {type(known[key]).__name__} is needed, such as {known[key]!r}.")
    return JudgeOptions(**chosen)


def _print_preflight(found: Preflight) -> None:
    server = found.server
    print(f"judge     {server.model} ({server.root or 'root not told'}), server version {server.version or 'not told'}")
    if found.frame_pairs and found.video_tokens:
        print(f"frames    {found.frame_pairs[0]} pairs of {found.frame_pairs[1]} kept")
        print(f"pictures  {found.video_tokens[0]} tokens of {found.video_tokens[1]} expected")
    if found.prompt_tokens is not None:
        print(f"prompt    {found.prompt_tokens} tokens without a rubric")
    if found.black_of_black is not None and found.black_of_real is not None:
        print(f"sight     P(black) {found.black_of_black:.3f} for a black video, {found.black_of_real:.3f} for another")
    for text in found.problems:
        say(f"problem: {text}.")
    for text in found.warnings:
        say(f"warning: {text}.")


def _print_checks(results: list[CheckResult]) -> bool:
    """Print every comparison and return whether all targeted ones fell."""
    print(f"{'check':<10}{'dimension':<11}{'before':>7}{'after':>7}{'fall':>7}{'pairs':>7}")
    for result in results:
        if result.before is None or result.after is None:
            numbers = f"{'-':>7}{'-':>7}{'-':>7}"
        else:
            numbers = f"{result.before:>7.2f}{result.after:>7.2f}{result.before - result.after:>7.2f}"
        verdict = ("  fell" if result.passed else "  DID NOT FALL") if result.targeted else ""
        print(f"{result.check:<10}{result.dimension:<11}{numbers}{result.pairs:>7}{verdict}")
    failed = [result for result in results if result.targeted and not result.passed]
    if failed:
        names = ", ".join(f"{result.dimension} ({result.check})" for result in failed)
        say(f"This judge does not notice: {names}. Do not rely on these dimensions. Exit code 1.")
    return not failed
