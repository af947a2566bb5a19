"""Judges docs/openapi.yaml, and what a server has answered, by each other.

    judge.py TOP ANSWERS COMPLAINTS

TOP is the tree; ANSWERS is a file of JSON: {answers, unseen}, with a list of
{path, method, status, headers, body, what} as t/710-openapi.t records them, and
one of [path, status, code] that need not be among them. Writes {check:
[complaint, ...]} into the file COMPLAINTS; an empty list is good.
"""
import json
import re
import sys
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator, FormatChecker
from openapi_spec_validator import validate
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

# Outcomes that no reply has.
LOG_ONLY = {'unsynced', 'answered_already'}
# What only the gate answers: the response that describes each code.
GATE = {'user_not_identified': 'UserNotIdentified',
        'user_banned': 'UserBanned', 'user_deleted': 'UserDeleted'}
# What only Supabase's own clients get, through mod_proxy: Supabase describes
# their requests.
PROXIED = {'admin_not_proxied'}
# Documented for the day when Supabase gives no code with that outcome; now
# it always has one.
NEVER_SEEN = {(403, 'not_allowed')}
# Headers that httpd adds to every reply.
OF_HTTPD = {'date', 'server', 'connection', 'keep-alive', 'content-length',
            'content-type'}

top = Path(sys.argv[1])
doc = yaml.safe_load((top / 'docs/openapi.yaml').read_text())
given = json.loads(Path(sys.argv[2]).read_text())
answers = given['answers']
unseen = {tuple(item) for item in given['unseen']}
complaints = {}


def complain(check, text=None):
    found = complaints.setdefault(check, [])
    if text is not None and text not in found:
        found.append(text)


def at(node):
    """Follows a $ref."""
    while isinstance(node, dict) and '$ref' in node:
        target = doc
        for name in node['$ref'].removeprefix('#/').split('/'):
            target = target[name.replace('~1', '/').replace('~0', '~')]
        node = target
    return node

# ---- schemas


def closed():
    """The components, with objects that take no members but their own.

    The description lets replies grow; this server must send no others. Where
    it says additionalProperties itself, it has decided. The parts of an allOf
    are closed from above.
    """
    def close(node):
        if isinstance(node, list):
            return [close(item) for item in node]
        if not isinstance(node, dict):
            return node
        node = {name: close(value) for name, value in node.items()}
        if 'properties' in node and 'additionalProperties' not in node \
                and isinstance(node['properties'], dict):
            node['unevaluatedProperties'] = False
        return node

    components = json.loads(json.dumps(doc['components']))
    for name, schema in components['schemas'].items():
        if 'allOf' in schema:
            schema['unevaluatedProperties'] = False
        elif name != 'Problem' and not name.endswith('Request'):
            components['schemas'][name] = close(schema)
    return components


def registered(components):
    """A registry in which whatever has a $ref into the components finds it."""
    text = json.dumps({'components': components})
    return Registry().with_resource('urn:doc', Resource(
        json.loads(text), DRAFT202012))

REGISTRY = {'strict': registered(closed()),
            'open': registered(doc['components'])}
validators = {}


def faults(value, schema, how='strict'):
    """What is wrong with a value; how: 'strict' or 'open'."""
    text = json.dumps(schema).replace('"#/', '"urn:doc#/')
    if (text, how) not in validators:
        validators[text, how] = Draft202012Validator(
            json.loads(text), registry=REGISTRY[how],
            format_checker=FormatChecker(['uuid', 'date']))
    return [f'{"/".join(map(str, e.absolute_path)) or "it"}: {e.message}'
            for e in validators[text, how].iter_errors(value)]


def codes(schema):
    """(code, is Supabase's code allowed as well) of a problem's schema."""
    schema = at(schema)
    for part in schema.get('oneOf', []) + schema.get('anyOf', []):
        yield from codes(part)
    for part in schema.get('allOf', []):
        yield from codes(part)
    code = schema.get('properties', {}).get('code', {})
    if 'const' in code:
        yield code['const'], False
    for name in code.get('enum', []):
        yield name, False
    if 'x-fallback' in code:
        yield code['x-fallback'], True


def operations():
    for path, item in doc['paths'].items():
        for method, operation in item.items():
            yield path, method, operation


def responses():
    """(path, method, status, response) of each, and those of the gate."""
    seen = set()
    for path, method, operation in operations():
        for status, ref in operation['responses'].items():
            seen.add(ref['$ref'])
            yield path, method, int(status), at(ref)
    for name, response in doc['components']['responses'].items():
        if f'#/components/responses/{name}' not in seen:
            schema = at(response['content']['application/problem+json']
                        ['schema'])
            yield None, None, schema['allOf'][1]['properties']['status'][
                'const'], response


def outcomes(status, response):
    """{(status, code, Supabase's)} that a response stands for."""
    found = set()
    for content in response.get('content', {}).values():
        found |= {(status, *code) for code in codes(content['schema'])}
    return found

# ---- one source of truth


def table_of_code():
    text = (top / 'src/reply/reply.c').read_text()
    rows = re.findall(r'\{US_\w+,\s+(\d+),\s+APLOG_\w+,\s+(\d+),\s+'
                      r'([\w |]+),\s+"(\w+)"', text)
    count = len(re.findall(r'^    \{US_', text, re.M))
    if len(rows) != count or count < 30:
        complain('the outcome table', f'{len(rows)} of {count} rows of '
                 'src/reply/reply.c can be read')
    return {(int(status), code, 'SUPABASE_CODE' in flags)
            for status, _, flags, code in rows}


def table_of_docs():
    text = (top / 'docs/routes.md').read_text()
    part = text.split('\n## Outcomes\n')[1].split('\n## ')[0]
    return {(0 if status == '-' else int(status),
             re.search(r'`(\w+)`', name)[1], 'Supabase' in name)
            for status, name in re.findall(
                r'^\| (\d+|-) \| ([^|]*) \|', part, re.M)}


def check_tables():
    check = 'the outcome table'
    complain(check)
    here, in_hook, named = set(), set(), set()
    for _, _, status, response in responses():
        here |= outcomes(status, response)
        successes = response.get('x-outcomes', [])
        if 'error' in json.dumps(response.get('content', {}).get(
                'application/json', {})) or len(successes) > 2:
            in_hook |= set(successes)
        else:
            named |= {(status, code, False) for code in successes}
    by_code = {}
    for table, rows in ('src/reply/reply.c', table_of_code()), \
            ('docs/routes.md', table_of_docs()):
        for row in rows:
            by_code.setdefault(row[1], row)
            if row not in here | named \
                    and row[1] not in LOG_ONLY | PROXIED | in_hook:
                complain(check, f'{table} has {row}, which is not described')
        for row in (here | named) - rows:
            complain(check, f'{row} is described, but not in {table}')
    refusals = {by_code.get(code, (0,))[0]
                for code in in_hook - {'ok', 'unsynced'}}
    shown = set(at(doc['components']['schemas']['HookRefusal'])
                ['properties']['error']['properties']['http_code']['enum'])
    if refusals != shown:
        complain(check, f'HookRefusal.http_code is {shown}, not {refusals}')
    for code in in_hook - set(by_code):
        complain(check, f'the hook has no outcome {code}')


def check_form():
    """It is OpenAPI; each part has one name and is used."""
    check = 'the form'
    complain(check)
    try:
        validate(doc)
    except Exception as error:  # whatever the validator raises
        complain(check, str(error))
    text = json.dumps(doc)
    for kind, parts in doc['components'].items():
        for name in parts:
            used = f'"#/components/{kind}/{name}"' in text
            if not used and kind != 'securitySchemes' \
                    and name not in GATE.values():
                complain(check, f'{kind} {name} is not used')
    ids = [operation['operationId'] for _, _, operation in operations()]
    if len(ids) != len(set(ids)):
        complain(check, 'an operationId twice')
    for path, item in doc['paths'].items():
        if set(item) != {'post', 'options'}:
            complain(check, f'{path}: {sorted(item)}')
    header = (top / 'include/usersync.h').read_text()
    routes = re.findall(r'ROUTE\("usersync-(\w+)"', header)
    for name in set(routes) ^ {operation['operationId']
                               for _, _, operation in operations()
                               if operation['tags'] == ['routes']}:
        complain(check, f'usersync-{name} is only here, or only a route')
    version = re.search(r'define US_VERSION "(.*)"', header)[1]
    if doc['info']['version'] != version:
        complain(check, f'the version is {version}')

# ---- examples


def check_examples():
    check = 'the examples'
    complain(check)
    for path, method, operation in operations():
        body = at(operation.get('requestBody', {}))
        for content in body.get('content', {}).values():
            for name, example in content['examples'].items():
                for fault in faults(at(example)['value'], content['schema'],
                                    'open'):
                    complain(check, f'{path} request {name}: {fault}')
    for path, method, status, response in responses():
        for content in response.get('content', {}).values():
            shown = set()
            for name, example in content['examples'].items():
                value = at(example)['value']
                for fault in faults(value, content['schema']):
                    complain(check, f'{path} {status} {name}: {fault}')
                shown.add(value.get('code'))
            for code, open_list in codes(content['schema']):
                if code not in shown and not open_list:
                    complain(check, f'{path} {status}: none for {code}')


def has_members(example, real):
    """Has the answer the members of the example, with values of their kind?"""
    if isinstance(example, dict):
        return isinstance(real, dict) and all(
            name in real and has_members(part, real[name])
            for name, part in example.items())
    return real is None if example is None \
        else type(example) is type(real)


def is_true(example, real):
    """The example of a problem is the answer but for ids and the values in
    lists. That of a success may leave out members of Supabase's objects."""
    if 'code' not in example:
        return set(example) == set(real) and has_members(example, real)
    both = [{**part, 'request_id': '',
             'errors': [sorted(e) for e in part.get('errors', [])[:1]]}
            for part in (example, real)]
    return both[0] == both[1]


def check_truth():
    """Each example is what the server has answered at least once."""
    check = 'the examples are true'
    complain(check)
    for path, method, status, response in responses():
        real = [json.loads(a['body']) for a in answers
                if a['status'] == status and a['body'] and (
                    a['path'] == path or path is None)
                and a['method'] != 'HEAD']
        for content in response.get('content', {}).values():
            for name, example in content['examples'].items():
                value = at(example)['value']
                if not any(is_true(value, answer) for answer in real):
                    complain(check, f'{path} {status} {name}')

# ---- answers


def is_required(response, name):
    return at(response['headers'][name]).get('required')


def judge_headers(response, headers):
    described = {name.lower(): name for name in response.get('headers', {})}
    for name in set(headers) - set(described) - OF_HTTPD:
        yield f'header {name} is not described'
    for name, spelled in described.items():
        header = at(response['headers'][spelled])
        if name not in headers:
            if is_required(response, spelled):
                yield f'header {spelled} is missing'
            continue
        value = headers[name]
        if header['schema'].get('type') == 'integer' and value.isdigit():
            value = int(value)
        for fault in faults(value, header['schema']):
            yield f'header {spelled}: {fault}'


def of_gate(answer):
    """The operation of a gate that has answered so."""
    name = GATE.get(json.loads(answer['body']).get('code'))
    return {'responses': {str(answer['status']): {
        '$ref': f'#/components/responses/{name}'}} if name else {}}


def judge(answer):
    item = doc['paths'].get(answer['path'])
    if item is None and answer['path'] is not None:
        yield 'no such path'
        return
    status, code = answer['status'], None
    operation = item['options' if answer['method'] == 'OPTIONS' else 'post'] \
        if item else of_gate(answer)
    ref = operation['responses'].get(str(status))
    if ref is None:
        yield f'status {status} is not described'
        return
    response = at(ref)
    yield from judge_headers(response, answer['headers'])
    content = response.get('content', {})
    kind = answer['headers'].get('content-type')
    if not content:
        if answer['body'] or kind:
            yield f'a body, {kind}'
        return
    if kind not in content:
        yield f'content type {kind}'
    elif answer['method'] == 'HEAD':
        if answer['body']:
            yield 'a body'
    else:
        yield from faults(json.loads(answer['body']), content[kind]['schema'])


def judged(answer):
    try:
        return list(judge(answer))
    except ValueError as error:
        return [f'the body is no JSON: {error}']


def check_answers():
    check = 'the answers'
    complain(check)
    for answer in answers:
        for fault in judged(answer):
            complain(check, f'{answer["what"]}: {answer["method"]} '
                     f'{answer["path"]} {answer["status"]}: {fault}: '
                     f'{answer["body"]}')


def seen_of(answer):
    """(status, code): the code, or the outcome of a success."""
    code = answer.get('outcome')
    if code is None:
        try:
            code = json.loads(answer['body'] or '{}').get('code')
        except ValueError:
            code = None
    return answer['status'], code


def check_complete():
    """Each outcome that is described for an operation has been seen there."""
    check = 'each outcome is seen'
    complain(check)
    seen = {(a['path'], *seen_of(a)) for a in answers}
    for path, method, status, response in responses():
        wanted = [(code, open_list) for _, code, open_list
                  in sorted(outcomes(status, response))]
        if 'content' not in response or 'x-outcomes' in response:
            wanted += [(code, False) for code in response['x-outcomes']]
        for code, open_list in wanted:
            if (status, code) not in NEVER_SEEN \
                    and (path, status, code) not in seen | unseen:
                complain(check, f'{path} {status} {code}')
            if open_list and not any(
                    p == path and s == status and c not in (
                        code, 'invalid_request') for p, s, c in seen):
                complain(check, f"{path} {status}: Supabase's code")

check_form()
check_tables()
check_examples()
check_answers()
check_complete()
check_truth()
Path(sys.argv[3]).write_text(json.dumps(complaints))
