"""The server of the Model Context Protocol (official SDK): its tools, for the person who asks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version as version_of
from typing import Annotated, Any

from mcp.server.mcpserver import Context, MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from deltadex.access import Person
from deltadex.engine.examples import MAX_CHARACTERS, MAX_EXAMPLES, Example
from deltadex.errors import DeltadexError
from deltadex.find import search as task_search
from deltadex.mcp_server import answers
from deltadex.mcp_server.untrusted import NOTICE, TEXT_CHARACTERS, fenced, quoted
from deltadex.mcp_server.values import (
    MOST,
    DriftAnswer,
    DuplicatesAnswer,
    FindAnswer,
    FindingsAnswer,
    ModelAnswer,
    NeighborsAnswer,
    SearchAnswer,
)
from deltadex.settings import Settings
from deltadex.store.database import Database, Transaction
from deltadex.types import FindingKind

#: Tells who asks: from a request over HTTP, or, for None, from this process.
PersonOf = Callable[[object | None], Person]

NAME = "deltadex"
_INSTRUCTIONS = (
    "Deltadex knows what the finetuned language models of an MLflow registry do. Before a new model is trained, "
    "ask find_models whether there is one for the task. Similarities are cosine similarities of behaviour (higher is "
    f"closer); '•••' is a model that the person may not see. {NOTICE}"
)
_READS = ToolAnnotations(read_only_hint=True, destructive_hint=False, idempotent_hint=True, open_world_hint=False)
_ASKS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)

_Version = Annotated[str, Field(description="A model version as NAME/VERSION.", max_length=300)]
_Name = Annotated[str, Field(description="A registered model.", min_length=1, max_length=256)]
_Limit = Annotated[int, Field(description="Most entries.", ge=1, le=MOST)]


class TaskExample(BaseModel):
    """An input and the output that is wanted for it."""

    model_config = ConfigDict(extra="forbid")

    prompt: str = Field(min_length=1, max_length=MAX_CHARACTERS)
    completion: str = Field(min_length=1, max_length=MAX_CHARACTERS)


class RegistryTools:
    """The tools. Each reads in a transaction of its own, as the person of the request.

    Parameters
    ----------
    database
        Opened by the reader's login.
    asking
        Opened by the login that says who asks, to store searches by examples; None: they are not offered.
    """

    def __init__(
        self, settings: Settings, database: Database, person_of: PersonOf, *, asking: Database | None = None
    ) -> None:
        self._settings = settings
        self._database = database
        self._person_of = person_of
        self._asking = asking

    @property
    def may_ask(self) -> bool:
        """True if searches by examples are offered."""
        return self._asking is not None

    def find_models(
        self,
        ctx: Context,
        words: Annotated[
            str, Field(description="Words to look for in names, tags, descriptions, promoted tokens.", max_length=300)
        ] = "",
        like: Annotated[
            str,
            Field(description='Domains, models or versions with weights: "0.5 legal + 0.5 code".', max_length=600),
        ] = "",
        base: Annotated[str | None, Field(description="With like: the finetunes' base model.", max_length=256)] = None,
        limit: _Limit = 10,
    ) -> Annotated[CallToolResult, FindAnswer]:
        """Find models for a task: by words, or like a mixture of known models and domains."""
        if bool(words.strip()) == bool(like.strip()):
            raise ToolError("Give either words or like.")
        return self._answered(
            ctx,
            lambda tx, viewer: answers.find_answer(
                tx, viewer, self._settings, words=words.strip(), like=like.strip(), base=base, limit=limit
            ),
        )

    def neighbors(
        self,
        ctx: Context,
        version: _Version,
        limit: _Limit = 10,
        min_similarity: Annotated[float, Field(description="Least cosine similarity.", ge=-1, le=1)] = -1.0,
    ) -> Annotated[CallToolResult, NeighborsAnswer]:
        """List the versions that behave most like one version."""
        return self._answered(
            ctx,
            lambda tx, viewer: answers.neighbors_answer(
                tx, viewer, self._settings, version, limit=limit, min_similarity=min_similarity
            ),
        )

    def duplicates(
        self,
        ctx: Context,
        model: Annotated[
            str | None, Field(description="Only groups with a version of this model.", max_length=256)
        ] = None,
        limit: _Limit = 10,
    ) -> Annotated[CallToolResult, DuplicatesAnswer]:
        """List groups of redundant versions, with the one to keep."""
        return self._answered(
            ctx, lambda tx, viewer: answers.duplicates_answer(tx, viewer, self._settings, name=model, limit=limit)
        )

    def drift(self, ctx: Context, model: _Name) -> Annotated[CallToolResult, DriftAnswer]:
        """Tell how far a registered model moved from version to version."""
        return self._answered(ctx, lambda tx, viewer: answers.drift_answer(tx, viewer, self._settings, model))

    def findings(
        self,
        ctx: Context,
        version: Annotated[str | None, Field(description="Only about this NAME/VERSION.", max_length=300)] = None,
        kinds: Annotated[
            list[FindingKind] | None, Field(description="Only these kinds.", max_length=len(FindingKind))
        ] = None,
        undecided: Annotated[bool, Field(description="Only findings that need a decision.")] = True,
        limit: _Limit = 10,
    ) -> Annotated[CallToolResult, FindingsAnswer]:
        """List findings: duplicates, drifts, wrong bases and others that a person should review."""
        return self._answered(
            ctx,
            lambda tx, viewer: answers.findings_answer(
                tx, viewer, self._settings, version=version, kinds=kinds or (), undecided=undecided, limit=limit
            ),
        )

    def describe_model(
        self, ctx: Context, model: Annotated[str, Field(description="NAME, or NAME/VERSION.", max_length=300)]
    ) -> Annotated[CallToolResult, ModelAnswer]:
        """Describe a registered model or version: facts, authors' texts, neighbours, open findings."""
        return self._answered(ctx, lambda tx, viewer: answers.model_answer(tx, viewer, self._settings, model))

    def search_state(
        self,
        ctx: Context,
        request: Annotated[int, Field(description="The id from find_by_examples.", ge=1)],
        limit: _Limit = 10,
    ) -> Annotated[CallToolResult, SearchAnswer]:
        """Tell the state of a search by examples, and its models once it is done."""
        return self._answered(
            ctx, lambda tx, viewer: answers.search_answer(tx, viewer, self._settings, request, limit=limit)
        )

    def find_by_examples(
        self,
        ctx: Context,
        examples: Annotated[
            list[TaskExample],
            Field(description="Inputs and outputs of the task.", min_length=5, max_length=MAX_EXAMPLES),
        ],
        base: Annotated[
            str | None, Field(description="Base model of the finetunes; default: the only one.", max_length=256)
        ] = None,
    ) -> Annotated[CallToolResult, SearchAnswer]:
        """Start a search by examples, which trains for a minute or more; ask search_state for its result."""
        settings = self._settings
        given = [Example(one.prompt, one.completion) for one in examples]

        def ask(tx: Transaction, viewer: Person) -> SearchAnswer:
            chosen = task_search.known_base(tx, viewer, settings, base)
            return answers.search_answer(tx, viewer, settings, task_search.ask(tx, viewer, settings, chosen, given))

        return self._answered(ctx, ask, database=self._asking)

    def _answered(
        self, ctx: Context, read: Callable[[Transaction, Person], Any], *, database: Database | None = None
    ) -> CallToolResult:
        with _stated_errors():
            viewer = self._person_of(ctx.request_context.request)
            value = (database or self._database).run(lambda tx: read(tx, viewer))
        structured: dict[str, Any] = TypeAdapter(type(value)).dump_python(value, mode="json")
        return CallToolResult(
            content=[TextContent(type="text", text=fenced(structured))], structured_content=structured
        )


@contextmanager
def _stated_errors() -> Iterator[None]:
    """Turn stated errors into those that an assistant reads; all others are crashes, of which it learns nothing."""
    try:
        yield
    except DeltadexError as error:
        said = f"{error.message}. {error.hint}" if error.hint else error.message
        # Its hint may list domains or bases, which are named by strangers.
        raise ToolError(fenced({"error": quoted(said, at_most=TEXT_CHARACTERS)})) from error


def build_server(tools: RegistryTools) -> MCPServer[Any]:
    """Return the server of some tools; the search by examples is among them only if they may ask for one."""
    server: MCPServer[Any] = MCPServer(
        NAME, title="Deltadex", instructions=_INSTRUCTIONS, version=version_of("deltadex"), log_level="WARNING"
    )
    for read in (
        tools.find_models,
        tools.describe_model,
        tools.neighbors,
        tools.duplicates,
        tools.drift,
        tools.findings,
    ):
        server.tool(annotations=_READS)(read)
    if tools.may_ask:
        server.tool(annotations=_ASKS)(tools.find_by_examples)
        server.tool(annotations=_READS)(tools.search_state)
    return server
