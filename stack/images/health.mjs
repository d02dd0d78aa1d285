// The container's health check: asks the process on its admin port. Handlers and workers are asked /startupz. Docker gives the
// name of a handler to the proxy only once it is healthy, so a task that has never been ready gets no request, and Swarm
// replaces a worker only by one that has prepared the database. Whether it is ready now is another question, which the proxy
// asks; a process that waits for its Redis must not be killed for it.
const [port, path] = process.argv.slice(2);
const { ok } = await fetch(`http://127.0.0.1:${port}${path}`, { signal: AbortSignal.timeout(9_000) });
process.exitCode = ok ? 0 : 1;
