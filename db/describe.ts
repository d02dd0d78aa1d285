import { type Kysely, sql } from 'kysely';

/**
 * Returns the schema `public` as SQL: columns, constraints, further indexes and storage options, sorted by table name, then the
 * views. A test compares it with `schema.sql`, which makes every schema change visible in review.
 */
export async function describeSchema<T>(db: Kysely<T>): Promise<string> {
  const { rows } = await sql<{ text: string }>`
    select format(
      E'create table %s (\n%s\n)%s;\n%s',
      c.relname,
      (
        select string_agg(line, E',\n' order by kind, place)
        from (
          select 1 as kind, a.attnum as place,
            format('  %s %s%s%s%s', a.attname, format_type(a.atttypid, a.atttypmod),
              case when a.attcollation not in (0, 100) then format(' collate %I', o.collname) else '' end,
              case when a.attnotnull then ' not null' else '' end,
              coalesce(' default ' || pg_get_expr(d.adbin, d.adrelid), '')) as line
          from pg_attribute a
          left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
          left join pg_collation o on o.oid = a.attcollation
          where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
          union all
          select 2, row_number() over (order by conname), format('  constraint %s %s', conname, pg_get_constraintdef(oid))
          from pg_constraint
          where conrelid = c.oid and contype <> 'n'
        ) as lines
      ),
      coalesce(' with (' || array_to_string(c.reloptions, ', ') || ')', ''),
      (
        select coalesce(string_agg(pg_get_indexdef(i.indexrelid) || E';\n', '' order by i.indexrelid::regclass::text), '')
        from pg_index i
        where i.indrelid = c.oid
          and not exists (select from pg_constraint where conindid = i.indexrelid)
      )
    ) as text
    from pg_class c
    where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and c.relname not like 'kysely%'
    order by c.relname
  `.execute(db);
  const { rows: views } = await sql<{ text: string }>`
    select format(E'create view %s as\n%s\n', relname, pg_get_viewdef(oid)) as text
    from pg_class
    where relnamespace = 'public'::regnamespace and relkind = 'v'
    order by relname
  `.execute(db);
  return [...rows, ...views].map(({ text }) => text).join('\n');
}
