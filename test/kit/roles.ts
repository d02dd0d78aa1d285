import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import pg from 'pg';
import { ROOT } from '#dev/root.ts';

const ROLES_FILE = join(ROOT, 'db/roles.sql');

/** The roles of `db/roles.sql`. */
export type Role = 'turnout_worker' | 'turnout_results' | 'turnout_dashboard' | 'turnout_audit';
const ROLES: readonly Role[] = ['turnout_worker', 'turnout_results', 'turnout_dashboard', 'turnout_audit'];

/** Runs `db/roles.sql`. */
export async function applyRoles(url: string): Promise<void> {
  const statements = await readFile(ROLES_FILE, 'utf8');
  await withClient(url, (client) => client.query(statements));
}

/** Sets a new password for each role and returns the database URL of each. */
export async function createRoleUrls(url: string): Promise<Readonly<Record<Role, string>>> {
  const entries = await withClient(url, async (client) => {
    const urls: (readonly [Role, string])[] = [];
    for (const role of ROLES) {
      const password = randomBytes(12).toString('hex');
      await client.query(`alter role ${role} password '${password}'`);
      urls.push([role, Object.assign(new URL(url), { username: role, password }).href]);
    }
    return urls;
  });
  return Object.fromEntries(entries) as Record<Role, string>;
}

async function withClient<T>(url: string, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client({ connectionString: url });
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
