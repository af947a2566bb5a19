// A program that does with supabase-js what a test tells it: lines of JSON come
// in, lines of JSON go out, in the order in which the promises resolve.
//
//   {"n": 1, "client": {"url": ..., "key": ..., "auth": {...}}}
//   {"n": 2, "call": "auth.signUp", "args": [{...}]}
//   {"n": 2, "data": {...}, "error": null}     what came of the call
//   {"n": 3, "look": 1}     the events so far, and the session that is kept
//
// Nothing but the library speaks to the server.
import { webcrypto } from 'node:crypto';
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';

const require = createRequire(`${process.env.USERSYNC_CLIENTS}/node/`);
// the library asks for Node.js 20; Debian 12 has 18, which lacks only this
globalThis.crypto ??= webcrypto;
const { createClient } = require('@supabase/supabase-js');

let client, events, store;

const create = async ({ url, key, auth }) => {
    await client?.auth.stopAutoRefresh();
    const kept = store = new Map();
    const seen = events = [];
    const storage = {
        getItem: (name) => kept.get(name) ?? null,
        setItem: (name, value) => void kept.set(name, value),
        removeItem: (name) => void kept.delete(name),
    };
    client = createClient(url, key, {
        auth: { storage, detectSessionInUrl: false, ...auth },
        // realtime is not used, and Node.js 18 and 20 have no WebSocket
        realtime: { transport: globalThis.WebSocket ?? class {} },
    });
    client.auth.onAuthStateChange((event) => seen.push(event));
    await client.auth.initialize();
};

const say = (n, what) =>
    process.stdout.write(`${JSON.stringify({ n, ...what })}\n`);

const describe = (error) => error && {
    name: error.name, status: error.status ?? null, code: error.code ?? null,
    message: error.message,
};

const look = () => {
    const [kept] = [...store].filter(([name]) => name.endsWith('-auth-token'));
    return { events, session: kept ? JSON.parse(kept[1]) : null };
};

const call = async (n, name, args) => {
    const path = name.split('.');
    const method = path.pop();
    const object = path.reduce((at, part) => at[part], client);
    try {
        const got = await object[method](...args);
        const { data = null, error = null } = got ?? {};
        say(n, { data, error: describe(error) });
    } catch (error) {
        say(n, { data: null, error: describe(error) });
    }
};

for await (const line of createInterface({ input: process.stdin })) {
    const { n, client: options, call: name, args } = JSON.parse(line);
    if (options) await create(options);
    if (name) void call(n, name, args);
    else say(n, { data: look(), error: null });
}
process.exit(0);
