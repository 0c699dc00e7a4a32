"""Makes instances from the official schemas and lets an independent validator judge them.

Writes one line per instance: version, message, whether it is valid, what was done to it, the JSON pointer of the place
and what a checker should find there, the instance. All separated by tabs. The judge is `jsonschema` with its format
checkers, on the schemas as they are in the PyPI package `ocpp`; numbers are decimals on both sides, so that the judge
does not suffer from binary floats. `5.0` counts as an integer in all drafts, since OCPP's stations write it.

    python instances.py [version ...]
"""

import decimal
import json
import pathlib
import random
import sys
from decimal import Decimal

import jsonschema
import ocpp

SEED = 20241123
VERSIONS = ["v16", "v201", "v21"]


class Lexeme:
    """A value that stands in the text exactly like this."""

    def __init__(self, text):
        self.text = text


def dumps(value):
    if isinstance(value, Lexeme):
        return value.text
    if isinstance(value, dict):
        return "{" + ",".join(json.dumps(k, ensure_ascii=False) + ":" + dumps(v) for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(dumps, value)) + "]"
    return json.dumps(value, ensure_ascii=False)


def is_integer(_checker, instance):
    if isinstance(instance, bool):
        return False
    return isinstance(instance, int) or (isinstance(instance, Decimal) and instance == instance.to_integral_value())


def is_number(_checker, instance):
    return isinstance(instance, (int, Decimal)) and not isinstance(instance, bool)


def judge_for(schema):
    base = jsonschema.Draft6Validator
    for name in ("date-time", "uri"):
        assert name in base.FORMAT_CHECKER.checkers, f"the judge does not know the format {name}"
    types = base.TYPE_CHECKER.redefine_many({"integer": is_integer, "number": is_number})
    judge = jsonschema.validators.extend(base, type_checker=types)
    return judge(schema, format_checker=base.FORMAT_CHECKER)


DATE_TIMES = [
    "2024-02-29T23:59:59Z",
    "2024-01-01T00:00:00.1Z",
    "2024-01-01T00:00:00.123Z",
    "2024-01-01T00:00:00.999999Z",
    "2024-01-01T00:00:00.123456789012Z",
    "2024-01-01T00:00:00+00:00",
    "2024-01-01T01:30:00.5-09:45",
    "2024-01-01t00:00:00z",
    "1970-01-01T00:00:00Z",
    "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59.999Z",
    # And what is none.
    "",
    "2024-01-01",
    "2024-01-01T00:00:00",
    "2024-01-01 00:00:00Z",
    "2024-01-01T00:00:00+0200",
    "2024-01-01T00:00:00+02",
    "2024-01-01T00:00Z",
    "2024-01-01T24:00:00Z",
    "2024-01-01T00:60:00Z",
    "2023-02-29T00:00:00Z",
    "2024-13-01T00:00:00Z",
    "2024-00-10T00:00:00Z",
    "2024-01-32T00:00:00Z",
    "2024-01-01T00:00:00.Z",
    "2024-01-01T00:00:00,5Z",
    "2024-01-01T00:00:00+24:00",
    "2024-1-01T00:00:00Z",
    "20240101T000000Z",
    "noon",
    "0",
]

URIS = [
    "http://example.com/a?b=c#d",
    "ftp://user:password@192.0.2.7:21//file",
    "https://[2001:db8::1]:443/",
    "urn:example:a",
    "file:///a/b",
    "x:",
    "http://a/%20%7e",
    # And what is none.
    "",
    "example.com/a",
    "/a/b",
    "http//a",
    "http://a b/",
    "http://a/%2",
    "http://a/<b>",
    "1http://a",
    "http://[::1",
    "http://\u00fc.example/",
    "http://a/#b#c",
    "http://a:80x/",
]

INTEGERS = ["0", "-0", "1", "-1", "2", "3", "4", "100", "101", "2147483647", "-2147483648", "2147483648",
            "9007199254740993", "9223372036854775807", "-9223372036854775808"]
INTEGER_SPELLINGS = ["5.0", "-1.0", "1e2", "0.0", "20e-1", "1E0", "100.000", "3.0e0"]
FRACTIONS = ["0.5", "-1.25", "1e-1", "2147483647.5"]
NUMBERS = ["0", "-0", "0.0", "5", "5.0", "0.1", "-3.5", "12345678.9", "21.4", "1.10", "0.05", "1e3", "1E-2", "-0.001", "99.99",
           "100", "100.0", "100.1", "3.0000000000000001", "123456789012345678901234567890.5", "1e400", "0.30000000000000004", "-1e-400"]
ANYTHING = ["null", "true", "0", "1.10", "123456789012345678901234567890", "\"\"", "\"t\\u00e9xt\"", "[]", "[null, 1.0]", "{}",
            "{\"b\":1,\"a\":{\"b\" : [ ]},\"a\":2}"]
ESCAPES = ["\\ud83d\\ude00", '\\"', "\\\\", "\\/", "\\b", "\\f", "\\n", "\\r", "\\t", "\\u0000", "\\u00E9"]
WRONG = {
    "string": ["0", "true", "{}", "[]"],
    "integer": ["\"1\"", "false", "{}", "[1]"],
    "number": ["\"1.5\"", "true", "{}", "[]"],
    "boolean": ["0", "1", "\"true\"", "[]"],
    "object": ["[]", "\"{}\"", "1", "true"],
    "array": ["{}", "\"[]\"", "0", "false"],
}


class Message:
    def __init__(self, version, name, schema, emit):
        self.version, self.name, self.schema = version, name, schema
        self.emit = emit

    def resolve(self, schema):
        while "$ref" in schema:
            schema = self.schema["definitions"][schema["$ref"].rsplit("/", 1)[1]]
        return schema

    def smallest(self, schema, path=(), value=None):
        """The smallest valid value; with a path, the value there is given."""
        schema = self.resolve(schema)
        if not path and value is not None:
            return value
        kind = schema.get("type")
        if kind == "object":
            wanted = set(schema.get("required", ())) | set(path[:1])
            members = {}
            for name, member in schema.get("properties", {}).items():
                if name in wanted:
                    on_path = path and path[0] == name
                    members[name] = self.smallest(member, path[1:], value) if on_path else self.smallest(member)
            return members
        if kind == "array":
            first = [self.smallest(schema["items"], path[1:], value)] if path else []
            rest = max(schema.get("minItems", 0) - len(first), 0)
            return first + [self.smallest(schema["items"]) for _ in range(rest)]
        if kind == "string":
            if "enum" in schema:
                return schema["enum"][0]
            return {"date-time": "2024-01-01T00:00:00Z", "uri": "http://a"}.get(schema.get("format"), "a"[:schema.get("maxLength", 1)])
        if kind == "integer":
            return int(max(schema.get("minimum", 0), 0))
        if kind == "number":
            return 0
        return True if kind == "boolean" else "any"

    def largest(self, schema):
        schema = self.resolve(schema)
        kind = schema.get("type")
        if kind == "object":
            members = {name: self.largest(member) for name, member in schema.get("properties", {}).items()}
            if schema.get("additionalProperties") is not False:
                members.update({"x\u00e9": Lexeme("1.10"), "y": {"z": [None]}, "": Lexeme("1e400")})
            return members
        if kind == "array":
            count = min(schema.get("maxItems", 2), 2)
            return [self.largest(schema["items"]) for _ in range(count)]
        if kind == "string":
            if "enum" in schema:
                return schema["enum"][-1]
            return {"date-time": "2024-12-31T23:59:59.999+14:00", "uri": "https://u:p@example.com:8080/a/b?c=d#e"}.get(
                schema.get("format"), "m" * min(schema.get("maxLength", 50), 20_000))
        if kind == "integer":
            return int(schema.get("maximum", 2147483647))
        if kind == "number":
            return int(schema["maximum"]) if "maximum" in schema else Lexeme("21.4")
        return False if kind == "boolean" else {"any": [Lexeme("1.0")]}

    def places(self, schema=None, path=()):
        """Every place in the message: its path and its schema."""
        schema = self.resolve(schema or self.schema)
        yield path, schema
        for name, member in schema.get("properties", {}).items():
            yield from self.places(member, (*path, name))
        if "items" in schema:
            yield from self.places(schema["items"], (*path, 0))

    def put(self, path, value, what, finding=""):
        instance = self.smallest(self.schema, path, value)
        self.emit(self, dumps(instance), what, "".join(f"/{step}" for step in path), finding)

    def put_text(self, path, text, what, finding=""):
        self.put(path, Lexeme(text), what, finding)

    def make(self, rng):
        self.emit(self, dumps(self.smallest(self.schema)), "minimal", "", "")
        largest = self.largest(self.schema)
        self.emit(self, dumps(largest), "maximal", "", "")
        for name in largest:
            self.emit(self, dumps({k: v for k, v in largest.items() if k != name}), "maximal but one", f"/{name}", "")
        shuffled = list(largest.items())
        rng.shuffle(shuffled)
        self.emit(self, json.dumps(json.loads(dumps(dict(shuffled)).replace("1e400", "1").replace("1.10", "1")), indent=1).replace("\n", " "),
                  "shuffled, ASCII and white space", "", "")
        for path, schema in self.places():
            self.break_type(path, schema, rng)
            getattr(self, "make_" + schema.get("type", "any"))(path, schema)

    def break_type(self, path, schema, rng):
        kind = schema.get("type")
        if kind is None:
            return
        finding = "WrongType" if path else "NotAnObject"
        self.put_text(path, "null", "null", finding)
        for text in rng.sample(WRONG[kind], 2):
            self.put_text(path, text, "wrong type", finding)

    def make_any(self, path, _schema):
        for text in ANYTHING:
            self.put_text(path, text, "anything")

    def make_boolean(self, path, _schema):
        self.put(path, True, "true")
        self.put(path, False, "false")

    def make_object(self, path, schema):
        smallest = self.smallest(schema)
        for name in schema.get("required", ()):
            rest = {k: v for k, v in smallest.items() if k != name}
            if path:
                self.put(path, rest, f"without {name}", f"MissingMember {name}")
            else:
                self.emit(self, dumps(rest), f"without {name}", "", f"MissingMember {name}")
        closed = schema.get("additionalProperties") is False
        for extra in ({"unknown": 1}, {"": None}, {"Status": {"a": [1, {}]}}):
            name = next(iter(extra))
            finding = f"UnknownMember {name}" if closed else ""
            instance = {**smallest, **extra}
            if path:
                self.put(path, instance, "extra member", finding)
            else:
                self.emit(self, dumps(instance), "extra member", "", finding)
        if not closed:
            extras = {"n": Lexeme("12345678901234567890.10"), "o": {"a": Lexeme("[1e2, -0]")}, "s": Lexeme("\"\\u00e9\\/\"")}
            self.put(path, {**extras, **smallest}, "custom members first")
            self.put(path, {**smallest, **extras}, "custom members last")

    def make_array(self, path, schema):
        item = self.smallest(schema["items"])
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        self.put(path, [item] * least, "fewest items")
        if least:
            self.put(path, [item] * (least - 1), "too few items", "TooFewItems")
        if most is None:
            self.put(path, [item] * 40, "many items")
        else:
            self.put(path, [item] * most, "most items")
            self.put(path, [item] * (most + 1), "too many items", "TooManyItems")
        self.put(path, [item, None], "null among items", "WrongType 1")

    def make_string(self, path, schema):
        if "enum" in schema:
            for value in schema["enum"]:
                self.put(path, value, "listed value")
            for value in ("", "Unheard-of", schema["enum"][0] + " ", schema["enum"][0].swapcase()):
                if value not in schema["enum"]:
                    self.put(path, value, "unlisted value", "UnknownValue")
            self.put_text(path, '"' + "".join(f"\\u{ord(c):04x}" for c in schema["enum"][0]) + '"', "escaped value")
            return
        most = schema.get("maxLength")
        if schema.get("format") == "date-time":
            for value in DATE_TIMES:
                self.put(path, value, "date-time", "BadDateTime")
            return
        if schema.get("format") == "uri":
            for value in URIS:
                self.put(path, value, "uri", "BadUri")
            if most is not None:
                self.put(path, "http://" + "a" * (most - 7), "longest uri")
                self.put(path, "http://" + "a" * (most - 6), "uri too long", "TooLong")
            return
        self.put(path, "", "empty")
        self.put_text(path, '"' + "".join(ESCAPES[:most]) + '"', "escapes")
        if most is not None:
            for unit in ("a", "\u00e9", "\u20ac", "\U0001f50c"):
                self.put(path, unit * most, "longest")
                self.put(path, unit * (most + 1), "too long", "TooLong")
            if most <= 100:
                self.put_text(path, '"' + "\\ud83d\\udd0c" * most + '"', "longest, escaped")
                self.put_text(path, '"' + "\\u0009" * (most + 1) + '"', "too long, escaped", "TooLong")
        else:
            self.put(path, "\u00e9" * 3000, "long")

    def make_integer(self, path, schema):
        for text in INTEGERS:
            self.put_text(path, text, "integer", "OutOfRange")
        for text in INTEGER_SPELLINGS:
            self.put_text(path, text, "integer spelling")
        for text in FRACTIONS:
            self.put_text(path, text, "fraction", "WrongType")
        for bound, beyond in (("minimum", -1), ("maximum", 1)):
            if bound in schema:
                self.put(path, int(schema[bound]), "at the bound")
                self.put(path, int(schema[bound]) + beyond, "beyond the bound", "OutOfRange")

    def make_number(self, path, schema):
        for text in NUMBERS:
            self.put_text(path, text, "number")
        for bound, beyond in (("minimum", "-0.0001"), ("maximum", "00.0001")):
            if bound in schema:
                self.put(path, Lexeme(str(int(schema[bound]))), "at the bound")
                value = Decimal(int(schema[bound])) + Decimal(beyond)
                self.put(path, Lexeme(str(value)), "beyond the bound", "OutOfRange")
        if "multipleOf" in schema:
            self.put_text(path, "21.45", "no multiple", "NotAMultiple")


def main():
    # The remainder of a division by 0.1 needs all digits.
    decimal.getcontext().prec = 1000
    rng = random.Random(SEED)
    folder = pathlib.Path(ocpp.__file__).parent
    out = open(sys.stdout.fileno(), "w", encoding="utf-8", newline="\n", buffering=1 << 20)
    for version in sys.argv[1:] or VERSIONS:
        for path in sorted((folder / version / "schemas").glob("*.json")):
            schema = json.loads(path.read_text(encoding="utf-8-sig"), parse_float=Decimal)
            judge = judge_for(schema)
            seen = set()

            def emit(message, text, what, pointer, finding):
                if text in seen:
                    return
                seen.add(text)
                valid = judge.is_valid(json.loads(text, parse_float=Decimal))
                out.write("\t".join((message.version, message.name, "valid" if valid else "invalid", what, pointer, finding, text)) + "\n")

            Message(version, path.stem, schema, emit).make(rng)
    out.flush()


main()
