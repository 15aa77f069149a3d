-- Which types of modules does vmlinux define now?
--
-- modules: those that defined it; still: how many of the new kernel's modules keep one of the name;
-- alike: whether all of them and vmlinux declare it in the same words.
WITH defined AS (
    SELECT kernel, object_id, module, if(kind = 'ENUM64', 'ENUM', kind) AS kind, name,
           declaration_fingerprint
    FROM types
    WHERE kind IN ('STRUCT', 'UNION', 'ENUM', 'ENUM64', 'TYPEDEF') AND name IS NOT NULL
          AND NOT (kind IN ('ENUM', 'ENUM64') AND vlen = 0)
),
of_vmlinux AS (
    SELECT kernel, kind, name, list(DISTINCT declaration_fingerprint) AS declarations
    FROM defined
    WHERE object_id = 0
    GROUP BY ALL
),
fresh AS (  -- what vmlinux has, and had not
    SELECT pair, old_kernel, new_kernel, new.kind, new.name, new.declarations
    FROM pairs
    JOIN of_vmlinux AS new ON new.kernel = new_kernel
    ANTI JOIN of_vmlinux AS old ON old.kernel = old_kernel
                               AND old.kind = new.kind AND old.name = new.name
),
of_modules AS (
    SELECT kernel,
           kind,
           name,
           list_sort(list(DISTINCT module)) AS modules,
           list(DISTINCT declaration_fingerprint) AS declarations
    FROM defined
    SEMI JOIN (SELECT old_kernel AS kernel, kind, name FROM fresh
               UNION SELECT new_kernel, kind, name FROM fresh) AS wanted
        USING (kernel, kind, name)
    WHERE object_id > 0
    GROUP BY ALL
)
SELECT old_kernel,
       new_kernel,
       lower(fresh.kind) AS kind,
       fresh.name,
       old.modules,
       coalesce(len(new.modules), 0) AS still,
       list_sort(old.declarations)
           = list_sort(list_distinct(fresh.declarations || coalesce(new.declarations, []))) AS alike
FROM fresh
JOIN of_modules AS old ON old.kernel = old_kernel
                      AND old.kind = fresh.kind AND old.name = fresh.name
LEFT JOIN of_modules AS new ON new.kernel = new_kernel
                           AND new.kind = fresh.kind AND new.name = fresh.name
ORDER BY pair, len(old.modules) DESC, fresh.name, fresh.kind;
