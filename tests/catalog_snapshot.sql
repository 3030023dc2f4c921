-- Everything a database defines, one line each, without the system's own objects. A literal without a name that was read
-- back from print is named like its type from then on ('x'::text AS text): that name alone is left out of views.
select format('schema %s owner %s acl %s comment %s', n.nspname, n.nspowner::regrole,
              (select array_agg(a::text order by a::text) from unnest(n.nspacl) a), obj_description(n.oid, 'pg_namespace'))
  from pg_namespace n where n.nspname !~ '^(pg_|information_schema)'
union all
select format('relation %s.%s kind %s owner %s acl %s options %s rls %s %s replica %s populated %s comment %s%s',
              n.nspname, c.relname, c.relkind, c.relowner::regrole,
              (select array_agg(a::text order by a::text) from unnest(c.relacl) a), c.reloptions, c.relrowsecurity,
              c.relforcerowsecurity, c.relreplident, c.relispopulated, obj_description(c.oid, 'pg_class'),
              case when c.relkind in ('v', 'm') then ' as ' ||
                   regexp_replace(pg_get_viewdef(c.oid), '(''::(\w+)) AS "?\2"?(?=[,\s])', '\1', 'g') end)
  from pg_class c join pg_namespace n on n.oid = c.relnamespace
 where n.nspname !~ '^(pg_|information_schema)' and c.relkind in ('r', 'p', 'v', 'm', 'S', 'c', 'f')
union all
select format('column %s.%s.%s %s %s default %s acl %s comment %s', n.nspname, c.relname, a.attname,
              format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid), a.attacl,
              col_description(c.oid, a.attnum))
  from pg_attribute a join pg_class c on c.oid = a.attrelid join pg_namespace n on n.oid = c.relnamespace
  left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
 where n.nspname !~ '^(pg_|information_schema)' and a.attnum > 0 and not a.attisdropped
   and c.relkind in ('r', 'p', 'v', 'm', 'c', 'f')
union all
select format('constraint %s.%s %s %s', k.conrelid::regclass, k.conname, pg_get_constraintdef(k.oid), k.convalidated)
  from pg_constraint k join pg_namespace n on n.oid = k.connamespace
 where n.nspname !~ '^(pg_|information_schema)'
union all
select format('index %s valid %s', pg_get_indexdef(i.indexrelid), i.indisvalid)
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace
 where n.nspname !~ '^(pg_|information_schema)'
union all
select format('trigger %s %s', t.tgenabled, pg_get_triggerdef(t.oid))
  from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
 where n.nspname !~ '^(pg_|information_schema)' and not t.tgisinternal
union all
select format('policy %s.%s.%s %s %s %s using %s check %s', p.schemaname, p.tablename, p.policyname, p.permissive,
              p.roles, p.cmd, p.qual, p.with_check)
  from pg_policies p
union all
select format('function %s owner %s acl %s comment %s as %s', p.oid::regprocedure, p.proowner::regrole,
              (select array_agg(a::text order by a::text) from unnest(p.proacl) a), obj_description(p.oid, 'pg_proc'),
              pg_get_functiondef(p.oid))
  from pg_proc p join pg_namespace n on n.oid = p.pronamespace
 where n.nspname !~ '^(pg_|information_schema)' and p.prokind in ('f', 'p')
   and not exists (select from pg_depend d
                    where d.classid = 'pg_proc'::regclass and d.objid = p.oid and d.deptype = 'e')
union all
select format('extension %s in %s', e.extname, e.extnamespace::regnamespace) from pg_extension e
union all
select format('enum %s.%s %s', n.nspname, t.typname, string_agg(e.enumlabel, ',' order by e.enumsortorder))
  from pg_enum e join pg_type t on t.oid = e.enumtypid join pg_namespace n on n.oid = t.typnamespace
 where n.nspname !~ '^(pg_|information_schema)' group by n.nspname, t.typname
union all
select format('publication %s of %s.%s (%s) where %s', t.pubname, t.schemaname, t.tablename, t.attnames, t.rowfilter)
  from pg_publication_tables t
union all
select format('default privileges of %s in %s on %s: %s', d.defaclrole::regrole, d.defaclnamespace::regnamespace,
              d.defaclobjtype, d.defaclacl)
  from pg_default_acl d
