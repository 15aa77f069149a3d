-- Which types of modules does vmlinux define now?
--
-- modules: those that defined it; still: how many of the new kernel's modules keep one of the name
-- beside vmlinux's; alike: whether all of the new kernel declare it in the words of the old one.
WITH defined AS (
    SELECT kernel, object_id, module, if(kind = 'ENUM64', 'ENUM', kind) AS kind, name,
           declaration_fingerprint
    FROM types
    WHERE kind IN ('STRUCT', 'UNION', 'ENUM', 'ENUM64', 'TYPEDEF') AND name IS NOT NULL
          AND NOT (kind IN ('ENUM', 'ENUM64') AND vlen = 0)
),
in_vmlinux AS (SELECT DISTINCT kernel, kind, name FROM defined WHERE object_id = 0),
fresh AS (  -- what vmlinux has, and had not
    SELECT pair, old_kernel, new_kernel, new.kind, new.name
    FROM pairs
    JOIN in_vmlinux AS new ON new.kernel = new_kernel
    ANTI JOIN in_vmlinux AS old ON old.kernel = old_kernel
                               AND old.kind = new.kind AND old.name = new.name
),
wanted AS (
    SELECT old_kernel AS kernel, kind, name FROM fresh
    UNION SELECT new_kernel, kind, name FROM fresh
),
names AS (
    SELECT kernel,
           kind,
           name,
           list_sort(list(DISTINCT module) FILTER (module IS NOT NULL)) AS modules,
           list_sort(list(DISTINCT declaration_fingerprint)) AS declarations
    FROM defined SEMI JOIN wanted USING (kernel, kind, name)
    GROUP BY ALL
)
SELECT old_kernel,
       new_kernel,
       lower(fresh.kind) AS kind,
       fresh.name,
       old.modules,
       coalesce(len(new.modules), 0) AS still,
       old.declarations = new.declarations AS alike
FROM fresh
JOIN names AS old ON old.kernel = old_kernel AND old.kind = fresh.kind AND old.name = fresh.name
JOIN names AS new ON new.kernel = new_kernel AND new.kind = fresh.kind AND new.name = fresh.name
ORDER BY pair, len(old.modules) DESC, fresh.name, fresh.kind;
