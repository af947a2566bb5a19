# The script that comes to mind first: supabase-py lists all users, a page at a
# time, and psycopg inserts or updates a row for each.
#
#   backfill.py URL CONNINFO      the secret key is in BENCH_KEY
#
# One transaction for a page, and a statement that psycopg prepares.

import os
import sys

import psycopg
from supabase import create_client

PER_PAGE = 1000

UPSERT = """
INSERT INTO members (id, email, phone, is_anonymous, banned_until, deleted_at,
    updated_at)
VALUES (%s, %s, %s, %s, %s, %s, %s)
ON CONFLICT (id) DO UPDATE SET email = excluded.email, phone = excluded.phone,
    is_anonymous = excluded.is_anonymous,
    banned_until = excluded.banned_until, deleted_at = excluded.deleted_at,
    updated_at = excluded.updated_at
"""


def main(url, conninfo):
    admin = create_client(url, os.environ["BENCH_KEY"]).auth.admin
    count = 0
    page = 1
    with psycopg.connect(conninfo) as db:
        while True:
            users = admin.list_users(page, PER_PAGE)
            for user in users:
                db.execute(UPSERT, (
                    user.id, user.email or None, user.phone or None,
                    user.is_anonymous, user.banned_until, user.deleted_at,
                    user.updated_at))
            db.commit()
            count += len(users)
            if len(users) < PER_PAGE:
                break
            page += 1
    print(count)


main(*sys.argv[1:])
