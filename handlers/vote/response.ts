/** Marks a response as JSON for one client: browsers must not sniff it, caches must not store it. */
export const JSON_HEADERS = {
  'Content-Type': 'application/json',
  'Cache-Control': 'no-store',
  'X-Content-Type-Options': 'nosniff',
};

/**
 * Returns a response that @hono/node-server writes straight to the socket. Only a string with a plain object of headers
 * allows that; Hono's own helpers (`c.json`, `c.body`) build a `Headers` object first.
 */
export function respond(status: number, headers: Record<string, string>, body: string): Response {
  return new Response(body, { status, headers });
}
