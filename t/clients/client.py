"""Does with supabase-py what a test tells it: lines of JSON come in, lines of
JSON go out.

    {"n": 1, "client": {"url": ..., "key": ..., "auth": {...}}}
    {"n": 2, "call": "auth.sign_up", "args": [{...}]}
    {"n": 2, "data": {...}, "error": null}     what came of the call
    {"n": 3, "look": 1}     the events so far, and the session that is kept

Nothing but the library speaks to the server.
"""
import json
import sys

from pydantic import BaseModel
from supabase import ClientOptions, create_client


class Storage:
    """What the library keeps, for the test to look at."""

    def __init__(self):
        self.kept = {}

    def get_item(self, key):
        return self.kept.get(key)

    def set_item(self, key, value):
        self.kept[key] = value

    def remove_item(self, key):
        self.kept.pop(key, None)


class Client:
    def __init__(self, url, key, auth):
        self.storage = Storage()
        self.events = []
        self.library = create_client(
            url, key, ClientOptions(storage=self.storage, **auth))
        self.library.auth.on_auth_state_change(
            lambda event, session: self.events.append(event))

    def call(self, name, args):
        target = self.library
        for part in name.split("."):
            target = getattr(target, part)
        return plain(target(*args))

    def look(self):
        kept = [value for key, value in self.storage.kept.items()
                if not key.endswith("-code-verifier")]
        return {"events": self.events,
                "session": json.loads(kept[0]) if kept else None}


def plain(value):
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return value


def describe(error):
    return {"name": type(error).__name__, "message": str(error),
            "status": getattr(error, "status", None),
            "code": getattr(error, "code", None)}


client = None
for line in sys.stdin:
    told = json.loads(line)
    said = {"n": told["n"], "data": None, "error": None}
    try:
        if "client" in told:
            client = Client(**told["client"])
        if "call" in told:
            said["data"] = client.call(told["call"], told["args"])
        else:
            said["data"] = client.look()
    except Exception as error:
        said["error"] = describe(error)
    print(json.dumps(said), flush=True)
