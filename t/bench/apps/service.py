"""The service that the module replaces, at its best: FastAPI, one shared
httpx.AsyncClient, SQLAlchemy's asyncio with asyncpg, check, then insert.
Nothing blocks the loop, and no connection is made for a single request."""

import os
import ssl

import httpx
from fastapi import FastAPI, HTTPException
from pydantic import BaseModel
from sqlalchemy import Column, String
from sqlalchemy.dialects.postgresql import UUID
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession, create_async_engine
from sqlalchemy.orm import declarative_base, sessionmaker

Base = declarative_base()


class User(Base):
    __tablename__ = "users"
    id = Column(UUID(as_uuid=False), primary_key=True)
    email = Column(String)


class Credentials(BaseModel):
    email: str
    password: str


engine = create_async_engine(os.environ["BENCH_DSN"], pool_size=10,
                             max_overflow=0)
Session = sessionmaker(engine, class_=AsyncSession, expire_on_commit=False)
ca_file = os.environ.get("BENCH_CA")
supabase = httpx.AsyncClient(
    base_url=os.environ["BENCH_UPSTREAM"], timeout=5.0, trust_env=False,
    headers={"apikey": os.environ["BENCH_KEY"],
             "X-Supabase-Api-Version": "2024-01-01"},
    limits=httpx.Limits(max_connections=None, max_keepalive_connections=None),
    verify=ssl.create_default_context(cafile=ca_file) if ca_file else True)
app = FastAPI()


async def ask(path: str, credentials: Credentials) -> dict:
    answer = await supabase.post(path, json=credentials.dict())
    if answer.status_code != 200:
        raise HTTPException(answer.status_code, answer.text)
    return answer.json()


async def ensure_user(user: dict) -> None:
    async with Session() as session:
        if await session.get(User, user["id"]) is not None:
            return
        session.add(User(id=user["id"], email=user["email"]))
        try:
            await session.commit()
        except IntegrityError:
            await session.rollback()


async def sign_in(path: str, credentials: Credentials) -> dict:
    session = await ask(path, credentials)
    await ensure_user(session["user"])
    return {"user_id": session["user"]["id"], "session": session}


@app.post("/auth/login")
async def login(credentials: Credentials):
    return await sign_in("/auth/v1/token?grant_type=password", credentials)


@app.post("/auth/register")
async def register(credentials: Credentials):
    return await sign_in("/auth/v1/signup", credentials)
