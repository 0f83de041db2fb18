// Calls a proxy with the stock JavaScript client, and prints a JSON line for each thing that was tried.
// Arguments: the proxy's URL and a model's name. The pre-shared key comes on standard input, and nowhere else.
import { readFileSync } from "node:fs";
import { Ollama } from "ollama";

const [base, model] = process.argv.slice(2);
const psk = readFileSync(0, "utf8").trim();
const client = new Ollama({ host: base, headers: { "X-Pre-Shared-Key": psk } });
const messages = [{ role: "user", content: "Which platform?" }];

async function attempt(name, call) {
  let got;
  try {
    got = await call();
  } catch (error) {
    got = { raised: error.name, status: error.status_code ?? null, says: String(error.message).replaceAll(psk, "THE KEY") };
  }
  console.log(JSON.stringify({ try: name, got }));
}

async function collect(stream, text) {
  const parts = [];
  for await (const part of stream) parts.push(text(part));
  return parts;
}

await attempt("js list", async () => (await client.list()).models.map((m) => m.model));
await attempt("js chat", async () => (await client.chat({ model, messages })).message.content);
await attempt("js chat stream", async () =>
  collect(await client.chat({ model, messages, stream: true }), (p) => p.message.content));
await attempt("js generate", async () => (await client.generate({ model, prompt: "Which?" })).response);
await attempt("js embed", async () => (await client.embed({ model, input: ["a", "b"] })).embeddings.length);
await attempt("js abort", async () => {
  const stream = await client.chat({ model, messages, stream: true });
  let parts = 0;
  for await (const part of stream) {
    parts += 1;
    stream.abort();
  }
  // What had come already is still handed out; nothing is raised then.
  return parts;
});
await attempt("js pull", async () => (await client.pull({ model })).status);
await attempt("js other model", async () => (await client.chat({ model: "other", messages })).message.content);
await attempt("js no key", async () => (await new Ollama({ host: base }).list()).models.length);
