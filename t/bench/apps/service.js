'use strict';
// A Node.js service of the same kind: node:http, fetch, pg; check, then insert.

const cluster = require('node:cluster');
const http = require('node:http');
const {Pool} = require('pg');

const env = process.env;
const routes = {
    '/auth/login': '/auth/v1/token?grant_type=password',
    '/auth/register': '/auth/v1/signup',
};
const headers = {
    'Content-Type': 'application/json',
    'apikey': env.BENCH_KEY,
    'X-Supabase-Api-Version': '2024-01-01',
};

async function read(request) {
    const chunks = [];
    for await (const chunk of request) {
        chunks.push(chunk);
    }
    return JSON.parse(Buffer.concat(chunks).toString());
}

async function ensureUser(pool, user) {
    const found = await pool.query('SELECT 1 FROM users WHERE id = $1',
        [user.id]);
    if (found.rowCount === 0) {
        await pool.query('INSERT INTO users (id, email) VALUES ($1, $2)' +
            ' ON CONFLICT (id) DO NOTHING', [user.id, user.email]);
    }
}

async function signIn(pool, request) {
    const path = routes[request.url];
    if (!path || request.method !== 'POST') {
        return [404, {detail: 'Not Found'}];
    }
    const {email, password} = await read(request);
    const answer = await fetch(env.BENCH_UPSTREAM + path, {
        method: 'POST', headers, body: JSON.stringify({email, password}),
    });
    const session = await answer.json();
    if (!answer.ok) {
        return [answer.status, {detail: session}];
    }
    await ensureUser(pool, session.user);
    return [200, {user_id: session.user.id, session}];
}

function serve() {
    const pool = new Pool({
        host: env.BENCH_DB_HOST, port: Number(env.BENCH_DB_PORT),
        database: env.BENCH_DB, user: 'www-data', max: 10,
    });
    http.createServer(async (request, response) => {
        let status;
        let body;
        try {
            [status, body] = await signIn(pool, request);
        } catch (error) {
            console.error(error);
            [status, body] = [500, {detail: 'failed'}];
        }
        const text = JSON.stringify(body);
        response.writeHead(status, {
            'Content-Type': 'application/json',
            'Content-Length': Buffer.byteLength(text),
        });
        response.end(text);
    }).listen(Number(env.BENCH_PORT), '127.0.0.1', 511);
}

if (cluster.isPrimary) {
    cluster.fork();
    cluster.fork();
    cluster.on('exit', () => process.exit(1));
    process.on('SIGTERM', () => process.exit(0));
} else {
    serve();
    process.on('disconnect', () => process.exit(0));
}
