"""Read the folder of declarations. What is wrong with it is told by file, line, key and the nearest valid word."""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from lifecycle.declarations.application import FILES, Application, SqlFile
from lifecycle.errors import DeclarationError

Place = tuple[str | int, ...]
UNKNOWN_KEY: Final = "extra_forbidden"
MOST_TOLD: Final = 20
# The declarations of this project's own application, when nobody names another folder. An installed package has none.
DEFAULT_FOLDER: Final = Path(__file__).parents[2] / "application"
RELATIONS_FILE: Final = "schema.json"


class _Lines:
    """A YAML file as plain values, and the line on which each key stands."""

    def __init__(self, path: Path) -> None:
        self.lines: dict[Place, int] = {}
        try:
            node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
            self.value = None if node is None else self._read(node, (), path)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise DeclarationError(f"{path}:{line}: {error.problem or error.context}. The file is no YAML.") from None
        except (OSError, UnicodeDecodeError) as error:
            raise DeclarationError(f"{path}: cannot be read: {error}") from None

    def _read(self, node: yaml.Node, place: Place, path: Path) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            found: dict[str, Any] = {}
            for key_node, value_node in node.value:
                key = str(key_node.value)
                line = key_node.start_mark.line + 1
                if key in found:
                    raise DeclarationError(
                        f"{path}:{line}: {key}: is named twice. Put what belongs to it in one place."
                    )
                self.lines[(*place, key)] = line
                found[key] = self._read(value_node, (*place, key), path)
            return found
        if isinstance(node, yaml.SequenceNode):
            return [self._read(item, (*place, number), path) for number, item in enumerate(node.value)]
        # An empty one cannot be written again alone.
        return None if node.tag == "tag:yaml.org,2002:null" else yaml.safe_load(yaml.serialize(node))

    def line_of(self, place: Place) -> tuple[int, Place]:
        """The line of the innermost key on the way to `place`, and the keys up to there."""
        known: Place = ()
        for part in place:
            if (*known, part) in self.lines:
                known = (*known, part)
        return self.lines.get(known, 1), known


def load_application(folder: Path) -> Application:
    """Read `folder`; a file that does not exist declares nothing.

    Raises DeclarationError when the folder does not exist, holds a file that is none of ours, or a file says
    something that cannot be.
    """
    if not folder.is_dir():
        raise DeclarationError(
            f"{folder}: there is no such folder of declarations. Name yours, which holds files such as "
            "event_tables.yaml, for example: export LIFECYCLE_APPLICATION=$PWD/application"
        )
    unknown = sorted(path.name for path in folder.glob("*.y*ml") if path.suffix != ".yaml" or path.stem not in FILES)
    if unknown:
        raise DeclarationError(
            f"{folder / unknown[0]}: is none of the files of declarations"
            f"{_nearest(unknown[0].split('.')[0], FILES, '; did you mean {}.yaml?')}. They are "
            f"{', '.join(f'{name}.yaml' for name in FILES)}"
        )
    read = {name: _Lines(folder / f"{name}.yaml") for name in FILES if (folder / f"{name}.yaml").is_file()}
    functions = tuple(
        SqlFile(name=path.name, text=path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.sql"))
    )
    declared = {name: _said(name, lines.value) for name, lines in read.items() if lines.value is not None}
    try:
        return Application.model_validate({**declared, "functions": functions, "relations": _relations(folder)})
    except ValidationError as error:
        told = list(_told(error, folder, read))
        more = [f"and {len(told) - MOST_TOLD} more"] if len(told) > MOST_TOLD else []
        raise DeclarationError("\n".join([*told[:MOST_TOLD], *more])) from None


def _said(file: str, value: Any) -> Any:
    """The file without keys of its own under which nothing stands, as where all of a section is commented out."""
    if not isinstance(value, dict) or "root" in getattr(FILES[file], "model_fields", {}):
        return value
    return {key: held for key, held in value.items() if held is not None}


def _relations(folder: Path) -> list[Any]:
    path = folder / RELATIONS_FILE
    if not path.is_file():
        return []
    try:
        found: list[Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DeclarationError(f"{path}: cannot be read: {error}. `lifecycle schema` writes it anew.") from None
    return found


def _told(error: ValidationError, folder: Path, read: Mapping[str, _Lines]) -> Iterator[str]:
    for details in error.errors(include_url=False):
        file, place = str(details["loc"][0]), tuple(details["loc"][1:])
        path = folder / f"{file}.yaml"
        if file not in read:
            yield f"{folder}: {details['msg']}"
            continue
        line, known = read[file].line_of(place)
        key = " -> ".join(map(str, known)) or "the file"
        yield f"{path}:{line}: {key}: {_reason(details, file, known)}"


def _reason(details: ErrorDetails, file: str, known: Place) -> str:
    if details["type"] == UNKNOWN_KEY:
        names = _valid_keys(FILES[file], known[:-1])
        return f"is no key here{_nearest(str(known[-1]), names, '; did you mean {}?')} (known: {', '.join(names)})"
    if details["type"] == "missing":
        return f"{details['loc'][-1]} is missing"
    if details["type"] in ("literal_error", "enum"):
        expected = str((details.get("ctx") or {}).get("expected", ""))
        words = [word.strip(" '") for word in expected.replace(" or ", ", ").split(",")]
        return (
            f"{details['input']!r} is none of {expected}{_nearest(str(details['input']), words, '; did you mean {}?')}"
        )
    message = details["msg"].removeprefix("Value error, ")
    return f"{message} (found {details['input']!r})" if not isinstance(details["input"], dict | list) else message


def _valid_keys(model: Any, place: Place) -> list[str]:
    """The keys that may stand in the mapping at `place`, walking through the models."""
    current = model
    for part in place:
        fields = getattr(current, "model_fields", {})
        by_key = {field.alias or name: field for name, field in fields.items()}
        annotation = by_key[str(part)].annotation if str(part) in by_key else current
        current = _innermost_model(annotation) or current
    current = _innermost_model(current) or current
    return [field.alias or name for name, field in getattr(current, "model_fields", {}).items()]


def _innermost_model(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        root = annotation.model_fields.get("root")
        return _innermost_model(root.annotation) if root else annotation
    for argument in reversed(getattr(annotation, "__args__", ())):
        if found := _innermost_model(argument):
            return found
    return None


def _nearest(word: str, words: Mapping[str, Any] | list[str], told: str) -> str:
    found = difflib.get_close_matches(word, list(words), n=1)
    return told.format(found[0]) if found else ""
