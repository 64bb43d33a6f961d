"""Reads user-data with cloud-init's own code, and prints what cloud-init would do with it.

`python -I as_cloud_init.py FOLDER`, the user-data on stdin, JSON on stdout; `cloud_init.py` starts
it and names the fields. FOLDER: the unpacked cloud-init.zip of an image; the caller removes it,
even if this program is killed. It runs as its own program, because the folder's modules are the
image's, and because a small user-data can unpack to gigabytes: this process may use little memory.

Nothing of the user-data is executed or fetched, and no file outside the folder is written: Jinja
templates are rendered in Jinja's sandbox.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import importlib
import json
import logging
import re
import resource
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from jinja2.exceptions import SecurityError, TemplateSyntaxError, UndefinedError
from jinja2.sandbox import SandboxedEnvironment

MEMORY_BYTES = 1 << 30
#: The most of a file's content that is printed; a settings file may have 256 KiB.
CONTENT_BYTES = 256 * 1024 + 1
SETTINGS_FOLDER = "/etc/mlflow"
#: What cloud-init writes for a template variable that has no value.
MISSING = re.compile(r"CI_MISSING_JINJA_VAR/([\w.-]+)")
#: What follows in these messages of cloud-init quotes the user-data, which may hold secrets.
QUOTED_FROM = re.compile(
    r"(?<=column )(\d+)\b.*|(?<= userdata):.*|: Failed to render.*|(?<= on line )(\d+)\b.*"
    r"|(?<=[Ff]ailed to retrieve contents from) .*",
    re.DOTALL,
)


class Messages(logging.Handler):
    """Collects cloud-init's warnings."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        first = QUOTED_FROM.sub(r"\1\2", record.getMessage()).splitlines()[0][:300]
        if first not in self.found:
            self.found.append(first)


class Account:
    """The image's users or groups, in place of the modules pwd and grp."""

    def __init__(self, file: Path) -> None:
        self.names = {line.split(":")[0] for line in file.read_text().splitlines()}
        self.anyone = False

    def look_up(self, name: str) -> SimpleNamespace:
        if not self.anyone and name not in self.names:
            raise KeyError(name)
        return SimpleNamespace(pw_uid=0, gr_gid=0)

    getpwnam = getgrnam = look_up


class Reader:
    """One user-data, read by the cloud-init in a folder."""

    def __init__(self, folder: Path, scratch: Path) -> None:
        sys.path.append(str(folder / "lib"))  # after the host's own libraries
        module = importlib.import_module
        self.handlers: Any = module("cloudinit.handlers")
        self.cloud_config: Any = module("cloudinit.handlers.cloud_config")
        self.jinja: Any = module("cloudinit.handlers.jinja_template")
        self.helpers: Any = module("cloudinit.helpers")
        self.schema: Any = module("cloudinit.config.schema")
        self.user_data: Any = module("cloudinit.user_data")
        self.util: Any = module("cloudinit.util")
        self.write_files: Any = module("cloudinit.config.cc_write_files")
        self.render_string: Any = self.jinja.render_string
        self.jinja.render_string = self.render  # type: ignore[attr-defined]
        module("cloudinit.templater").JTemplate = sandboxed  # type: ignore[attr-defined]
        self.folder, self.scratch = folder, scratch
        self.messages = Messages()
        logging.getLogger().addHandler(self.messages)
        places = {"cloud_dir": str(scratch / "lib"), "run_dir": str(scratch / "run")}
        instance = SimpleNamespace(get_instance_id=lambda: "instance")
        self.paths: Any = self.helpers.Paths(places, ds=instance)
        self.parts: list[dict[str, Any]] = []
        self.unread: list[str] = []
        self.scripts: list[dict[str, str]] = []
        self.in_jinja, self.part_name = False, ""
        self.failure = ""

    def read(self, raw: bytes, instance_data: Mapping[str, Any]) -> dict[str, Any]:
        (self.scratch / "run").mkdir()
        file = Path(self.paths.get_runpath("instance_data_sensitive"))
        file.write_text(json.dumps(instance_data))
        config = self.merged(raw)
        found = {
            "parts": [{k: v for k, v in part.items() if k != "data"} for part in self.parts],
            "failure": self.failure,
            "scripts": bool(self.scripts),
            "unread": self.unread,
            "missing": sorted({n for part in self.parts for n in MISSING.findall(part["text"])}),
            "ssh_pwauth": self.is_true(config.get("ssh_pwauth")),
            "missing_modules": self.missing_modules(config),
            "commands": self.commands(config),
            **self.written(config),
            "schema": self.schema_problems(config),
        }
        return {**found, "messages": self.messages.found}

    def merged(self, raw: bytes) -> dict[str, Any]:
        """The cloud-config that all parts make together, as in Init._do_handlers."""
        processor = self.user_data.UserDataProcessor(self.paths)
        processor._do_include = lambda *_: self.unread.append("it includes other URLs")
        try:
            message = processor.process(raw)
        except (RuntimeError, ValueError) as error:  # then cloud-init itself fails
            self.failure = f"it is damaged ({type(error).__name__})"
            return {}
        config = self.cloud_config.CloudConfigPartHandler(paths=self.paths)
        merge_part = config.handle_part

        def handle_part(data: Any, ctype: str, name: str, payload: Any, *rest: Any) -> None:
            if ctype not in self.handlers.CONTENT_SIGNALS:
                self.note_part(name, payload)
            merge_part(data, ctype, name, payload, *rest)

        config.handle_part = handle_part
        recorder = SimpleNamespace(
            handler_version=2, frequency="always", handle_part=self.note_script
        )
        kinds = self.handlers.INCLUSION_TYPES_MAP
        scripts = {t for t in kinds.values() if "shellscript" in t or "boothook" in t}
        recorder.list_types = lambda: sorted(scripts)
        jinja = self.jinja.JinjaTemplatePartHandler(
            paths=self.paths, sub_handlers=[config, recorder]
        )
        registered = self.helpers.ContentHandlers()
        for handler in (config, recorder, jinja):
            registered.register(handler)
        state = {
            "handlers": registered,
            "data": None,
            "frequency": "once-per-instance",
            "excluded": ["text/part-handler"],
        }
        self.handlers.call_begin(config, None, "once-per-instance")
        self.handlers.walk(message, self.walk_part, state)
        self.handlers.call_end(config, None, "once-per-instance")
        return self.util.load_yaml(Path(config.cloud_fn).read_text(), default={}) or {}

    def walk_part(self, state: Any, name: str, payload: Any, headers: Mapping[str, str]) -> None:
        self.in_jinja, self.part_name = headers["Content-Type"] == "text/jinja2", name
        if headers["Content-Type"] == "text/part-handler":
            self.unread.append("it has a part handler")
        self.handlers.walker_callback(state, name, payload, headers)

    def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """The text of a template; "" if it has none here, which `unread` explains."""
        try:
            return str(self.render_string(template, variables))
        except TemplateSyntaxError as error:  # its text quotes the template
            self.note_part(self.part_name, template, bad_line=error.lineno)
        except SecurityError:
            self.unread.append("its Jinja template does what is not allowed on this host")
        except UndefinedError:
            self.unread.append("its Jinja template needs variables that only the machine knows")
        except Exception as error:
            name = type(error).__name__
            self.unread.append(f"its Jinja template cannot be rendered on this host ({name})")
        return ""

    def note_part(self, name: str, payload: Any, bad_line: int = 0) -> None:
        """Keep a part. bad_line: where a template has an error, which makes cloud-init skip it."""
        bytes_given = isinstance(payload, bytes)
        text = payload.decode("utf-8", "surrogateescape") if bytes_given else payload
        before = list(self.messages.found)
        data: Any = {}
        with contextlib.suppress(Exception):
            data = {} if bad_line else self.util.load_yaml(text, default={})
        self.messages.found = before  # cloud-init says it itself, when it merges the part
        broken = not data and bool(text.strip()) and not self.is_empty(text)
        jinja = self.in_jinja and not bad_line
        part = {"name": name, "text": text, "jinja": jinja, "broken": broken, "bad_line": bad_line}
        self.parts.append({**part, "data": data})

    def is_empty(self, text: str) -> bool:
        """Whether a text has nothing but comments."""
        return all(not line.strip() or line.lstrip()[0] == "#" for line in text.splitlines())

    def note_script(self, _: Any, ctype: str, name: str, payload: Any, *_rest: Any) -> None:
        if ctype not in self.handlers.CONTENT_SIGNALS:
            self.scripts.append({"name": name, "text": self.util.decode_binary(payload)})

    def commands(self, config: Mapping[str, Any]) -> list[str]:
        """Where commands of the user-data name the settings' folder."""
        texts = {key: json.dumps(config.get(key), default=str) for key in ("bootcmd", "runcmd")}
        texts |= {f"the script {script['name']}": script["text"] for script in self.scripts}
        return [where for where, text in texts.items() if SETTINGS_FOLDER in text]

    def written(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """What the module write_files does, entry by entry, with the image's users."""
        entries = config.get("write_files") or []
        found: dict[str, Any] = {"writes": [], "errors": [], "entries": []}
        if not isinstance(entries, list):
            found["errors"].append({"entry": None, "message": "write_files is not a list"})
            return found
        try:  # as cc_write_files and cc_write_files_deferred select theirs, before they write any
            deferred = [self.util.get_cfg_option_bool(entry, "defer", False) for entry in entries]
        except TypeError:
            message = "an entry is empty or not a block of keys"
            found["errors"].append({"entry": None, "message": message})
            return found
        users, groups = (Account(self.folder / "etc" / name) for name in ("passwd", "group"))
        current: dict[str, Any] = {}
        self.replace_system(current, found["writes"], users, groups)
        for late in (False, True):
            users.anyone = groups.anyone = late
            for position, entry in enumerate(entries):
                if deferred[position] is not late:
                    continue
                current.update(entry=position, late=late)
                try:
                    self.write_files.write_files("write_files", [entry], "root:root")
                except Exception as error:
                    found["errors"].append({"entry": position, "message": reason(error)})
        found["entries"] = [self.origin(entry) for entry in entries]
        return found

    def replace_system(
        self, current: Mapping[str, Any], writes: list[dict[str, Any]], users: Any, groups: Any
    ) -> None:
        """Record what cloud-init would write, instead of writing it; what it fetches is empty."""
        modes: dict[str, int] = {}

        def write_file(path: str, content: Any, mode: int = 0o644, omode: str = "wb", **_: Any):  # type: ignore[no-untyped-def]
            modes[path] = mode
            content = self.util.encode_text(content)[:CONTENT_BYTES]
            text = base64.b64encode(content).decode()
            append = "a" in omode
            writes.append(
                {**current, "path": path, "mode": mode, "append": append, "content": text}
            )

        def nothing(*_: Any, **__: Any) -> SimpleNamespace:
            return SimpleNamespace(contents=b"")

        self.util.write_file = write_file
        self.util.chownbyid = self.util.chmod = lambda *_: None
        self.util.get_permissions = modes.get
        self.util.pwd, self.util.grp = users, groups
        importlib.import_module("cloudinit.url_helper").read_file_or_url = nothing  # type: ignore[attr-defined]

    def origin(self, entry: Any) -> dict[str, Any]:
        """The part that an entry comes from, its position there, what it asks for."""
        options = entry if isinstance(entry, dict) else {}
        found: dict[str, Any] = {
            "part": None,
            "position": None,
            "encoding": str(options.get("encoding") or "").strip().lower(),
            "text": isinstance(options.get("content"), str),
            "permissions": "permissions" in options,
            "url": bool(options.get("source")),
        }
        for number, part in reversed(list(enumerate(self.parts))):
            mine = part["data"].get("write_files") if isinstance(part["data"], dict) else None
            if isinstance(mine, list) and entry in mine:
                return {**found, "part": number, "position": mine.index(entry)}
        return found

    def missing_modules(self, config: Mapping[str, Any]) -> bool:
        """Whether the user-data replaces the list of modules by one without write_files."""
        modules = config.get("cloud_init_modules")
        return modules is not None and "write_files" not in json.dumps(modules, default=str)

    def schema_problems(self, config: dict[str, Any]) -> list[str]:
        """Each violation of cloud-init's schema, without values."""
        try:
            self.schema.validate_cloudconfig_schema(config, strict=True, log_details=False)
        except self.schema.SchemaValidationError as refused:
            problems = refused.schema_errors or ()
            return [f"{path}: {without_values(path, text, config)}" for path, text in problems]
        return []

    def is_true(self, value: Any) -> bool:
        return bool(self.util.is_true(value))


def sandboxed(template: str, **options: Any) -> Any:
    """In place of jinja2.Template: a template that cannot reach Python's own objects."""
    return SandboxedEnvironment(**options).from_string(template)


def without_values(path: str, message: str, config: Any) -> str:
    """A message of jsonschema, with `the value` in place of the value at its path."""
    value = config
    for step in path.split(".") if path else ():
        with contextlib.suppress(KeyError, IndexError, ValueError, TypeError):
            value = value[int(step)] if isinstance(value, list) else value[step]
    shown = message.replace(repr(value), "the value")
    if value is not config and shown == message and not message.startswith("Additional"):
        return "is not valid"
    return shown if len(shown) < 300 else "is not valid"


def reason(error: Exception) -> str:
    """An error in one line; only texts of the system are shown, not those with values."""
    if isinstance(error, binascii.Error):
        return "its content is not base64"
    if type(error).__name__ == "DecompressionError":  # of cloud-init
        return "its content is not gzip"
    return str(error) if isinstance(error, OSError) else type(error).__name__


def main(argv: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    asked = json.load(sys.stdin)
    try:
        with tempfile.TemporaryDirectory(dir=argv[0]) as scratch:
            reader = Reader(Path(argv[0]), Path(scratch))
            found = reader.read(base64.b64decode(asked["user_data"]), asked["instance_data"])
    except Exception as error:  # its text may quote the user-data
        shown = str(error) if isinstance(error, ImportError) else type(error).__name__
        print(shown, file=sys.stderr)
        return 1
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
