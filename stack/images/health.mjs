// The container's health check: asks the process on its admin port whether its event loop turns. Whether it may be sent
// work is another question, which the proxy asks; a process that waits for its Redis must not be killed for it.
const [port] = process.argv.slice(2);
const { ok } = await fetch(`http://127.0.0.1:${port}/healthz`, { signal: AbortSignal.timeout(3_000) });
process.exitCode = ok ? 0 : 1;
