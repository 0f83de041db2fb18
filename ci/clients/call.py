"""Calls a proxy with the stock Python clients, and prints a JSON line for each thing that was tried.

Arguments: the proxy's URL and a model's name. The pre-shared key comes on standard input, and nowhere else.
A line is {"try": name, "got": what came back}; what should come back, the test says.
"""

import asyncio
import json
import sys

import anthropic
import ollama
import openai
from langchain_ollama import ChatOllama, OllamaEmbeddings

base, model = sys.argv[1:3]
psk = sys.stdin.read().strip()
headers = {"X-Pre-Shared-Key": psk}
ask = [{"role": "user", "content": "Which platform?"}]


def attempt(name, call):
    try:
        got = call()
    except Exception as error:  # whatever the client makes of a refusal is the result
        got = {
            "raised": type(error).__name__,
            "status": getattr(error, "status_code", None),
            "says": str(error).replace(psk, "THE KEY"),
        }
    print(json.dumps({"try": name, "got": got}), flush=True)


def ollama_python():
    client = ollama.Client(host=base, headers=headers)
    attempt("ollama list", lambda: [m.model for m in client.list().models])
    attempt("ollama ps", lambda: [m.model for m in client.ps().models])
    attempt("ollama show", lambda: client.show(model).details.family)
    attempt("ollama chat", lambda: client.chat(model, ask).message.content)
    attempt("ollama chat stream", lambda: [p.message.content for p in client.chat(model, ask, stream=True)])
    attempt("ollama chat counts", lambda: client.chat(model, ask).eval_count)
    attempt("ollama generate", lambda: client.generate(model, "Which platform?").response)
    attempt("ollama generate stream", lambda: [p.response for p in client.generate(model, "Which?", stream=True)])
    attempt("ollama embed", lambda: len(client.embed(model, ["a b", "c"]).embeddings))
    attempt("ollama embeddings", lambda: len(client.embeddings(model, "a b").embedding))
    attempt("ollama options", lambda: client.chat(model, ask, options={"num_predict": 1}).done_reason)
    attempt("ollama pull", lambda: str(client.pull(model)))
    attempt("ollama delete", lambda: str(client.delete(model)))
    attempt("ollama create", lambda: str(client.create(model="x", from_=model)))
    attempt("ollama other model", lambda: client.chat("other", ask).message.content)
    attempt("ollama no key", lambda: ollama.Client(host=base).chat(model, ask).message.content)
    bearer = ollama.Client(host=base, headers={"Authorization": f"Bearer {psk}"})
    attempt("ollama bearer", lambda: bearer.chat(model, ask).message.content)

    async def leave_early():
        client = ollama.AsyncClient(host=base, headers=headers)
        async for part in await client.chat(model, ask, stream=True):
            return part.message.content

    attempt("ollama leave early", lambda: asyncio.run(leave_early()))


def openai_python():
    client = openai.OpenAI(base_url=f"{base}/v1", api_key=psk, max_retries=0)
    chat = client.chat.completions.create
    attempt("openai models", lambda: [m.id for m in client.models.list()])
    attempt("openai chat", lambda: chat(model=model, messages=ask).choices[0].message.content)
    attempt(
        "openai chat stream",
        lambda: [p.choices[0].delta.content for p in chat(model=model, messages=ask, stream=True) if p.choices],
    )
    attempt(
        "openai usage",
        lambda: [
            p.usage.completion_tokens
            for p in chat(model=model, messages=ask, stream=True, stream_options={"include_usage": True})
            if p.usage
        ],
    )
    attempt("openai completion", lambda: client.completions.create(model=model, prompt="Which?").choices[0].text)
    attempt(
        "openai embeddings",
        lambda: [len(e.embedding) for e in client.embeddings.create(model=model, input=["a", "b"]).data],
    )
    both = openai.OpenAI(base_url=f"{base}/v1", api_key=psk, default_headers=headers, max_retries=0)
    attempt("openai both", lambda: both.models.list().data[0].id)
    attempt("openai other model", lambda: chat(model="other", messages=ask).choices[0].message.content)
    stranger = openai.OpenAI(base_url=f"{base}/v1", api_key="sbx_" + "A" * 43, max_retries=0)
    # A client that is given a header still sends its API key: two keys that differ are none.
    differing = openai.OpenAI(base_url=f"{base}/v1", api_key="ollama", default_headers=headers, max_retries=0)
    attempt("openai two keys", lambda: differing.models.list().data[0].id)
    attempt("openai wrong key", lambda: stranger.models.list().data[0].id)
    attempt("openai files", lambda: str(client.files.list()))


def anthropic_python():
    client = anthropic.Anthropic(base_url=base, api_key=psk, max_retries=0)

    def stream():
        with client.messages.stream(model=model, max_tokens=64, messages=ask) as events:
            return list(events.text_stream)

    attempt(
        "anthropic message",
        lambda: client.messages.create(model=model, max_tokens=64, messages=ask).content[0].text,
    )
    attempt("anthropic stream", stream)
    attempt(
        "anthropic other model",
        lambda: client.messages.create(model="other", max_tokens=64, messages=ask).content[0].text,
    )


def langchain():
    kwargs = {"base_url": base, "client_kwargs": {"headers": headers}}
    chat = ChatOllama(model=model, **kwargs)
    attempt("langchain invoke", lambda: chat.invoke("Which platform?").content)
    attempt("langchain stream", lambda: [p.content for p in chat.stream("Which platform?")])
    attempt("langchain async", lambda: asyncio.run(chat.ainvoke("Which platform?")).content)
    attempt("langchain usage", lambda: chat.invoke("Which platform?").usage_metadata["output_tokens"])
    attempt("langchain embed", lambda: len(OllamaEmbeddings(model=model, **kwargs).embed_documents(["a", "b"])))
    attempt("langchain other model", lambda: ChatOllama(model="other", **kwargs).invoke("Which?").content)


ollama_python()
openai_python()
anthropic_python()
langchain()
