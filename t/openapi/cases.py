"""What schemathesis has to know beside docs/openapi.yaml: who has an account,
how a hook is signed, and which limits a schema cannot express."""
import atexit
import base64
import hashlib
import hmac
import json
import os
import time

import requests
import schemathesis

URL = os.environ['USERSYNC_URL']
WHO = {'email': os.environ['USERSYNC_EMAIL'],
       'password': os.environ['USERSYNC_PASSWORD']}
SECRET = base64.b64decode(os.environ['USERSYNC_SECRET'].split('whsec_')[1])

turns = {}
tally = {}


def is_positive(case):
    return case.meta is not None and case.meta.generation.mode.is_positive


def session():
    reply = requests.post(f'{URL}/auth/login', json=WHO, timeout=30)
    reply.raise_for_status()
    return reply.json()['session']


@schemathesis.auth().apply_to(path='/auth/logout')
class AccessToken:
    """A user's own token; the module lets one log out as often as one likes."""

    def get(self, case, context):
        return session()['access_token']

    def set(self, case, data, context):
        case.headers = case.headers or {}
        case.headers['Authorization'] = f'Bearer {data}'


class StandardWebhooks(requests.auth.AuthBase):
    """Signs the bytes that are sent."""

    def __call__(self, request):
        body = request.body or b''
        if isinstance(body, str):
            body = body.encode()
        now = str(int(time.time()))
        signed = f'msg_1.{now}.'.encode() + body
        mac = hmac.new(SECRET, signed, hashlib.sha256).digest()
        request.headers.update({
            'Webhook-Id': 'msg_1', 'Webhook-Timestamp': now,
            'Webhook-Signature': 'v1,' + base64.b64encode(mac).decode()})
        return request


for called in '/hooks/supabase', '/events/supabase':
    schemathesis.auth.set_from_requests(StandardWebhooks()).apply_to(
        path=called)


@schemathesis.hook
def before_call(context, case, kwargs):
    """Every second good request has an address that is new, or credentials
    that work."""
    path = case.operation.path
    if not is_positive(case) or not isinstance(case.body, dict) \
            or case.method != 'POST':
        return
    turns[path] = turns.get(path, 0) + 1
    if turns[path] % 2:
        return
    if path == '/auth/register':
        case.body['email'] = f' New{turns[path]}@example.com'
    elif path == '/auth/login':
        case.body.update(WHO)
    elif path == '/auth/refresh':
        case.body['refresh_token'] = session()['refresh_token']


def is_beyond_schema(case):
    """Is it refused for what a schema cannot say: the length in bytes?"""
    body = case.body if isinstance(case.body, dict) else {}

    def size(name):
        value = body.get(name)
        return len(value.strip().encode()) if isinstance(value, str) else 0

    return size('email') > 255 or size('refresh_token') > 4096 or (
        case.operation.path == '/auth/register' and size('password') > 72)


@schemathesis.check
def right_is_right(ctx, response, case):
    """What the description allows is no invalid_request."""
    way = 'good' if is_positive(case) else 'bad'
    key = f'{case.operation.path} {way} {response.status_code}'
    tally[key] = tally.get(key, 0) + 1
    if case.operation.path.startswith('/auth/') and is_positive(case) \
            and response.status_code == 400 and not is_beyond_schema(case):
        code = json.loads(response.content).get('code')
        assert code != 'invalid_request', f'refused: {response.text}'


@atexit.register
def write_tally():
    """How many answers of each status there were, for the test."""
    with open(os.environ['USERSYNC_TALLY'], 'w', encoding='ascii') as file:
        json.dump(tally, file)
