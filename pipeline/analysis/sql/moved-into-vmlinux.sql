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
names AS (
    SELECT kernel,
           kind,
           name,
           bool_or(object_id = 0) AS in_vmlinux,
           list_sort(list(DISTINCT module) FILTER (module IS NOT NULL)) AS modules,
           list_sort(list(DISTINCT declaration_fingerprint)) AS declarations
    FROM defined
    GROUP BY ALL
)
SELECT old_kernel,
       new_kernel,
       lower(new.kind) AS kind,
       new.name,
       old.modules,
       coalesce(len(new.modules), 0) AS still,
       old.declarations = new.declarations AS alike
FROM pairs
JOIN names AS old ON old.kernel = old_kernel AND NOT old.in_vmlinux
JOIN names AS new ON new.kernel = new_kernel AND new.in_vmlinux
                 AND new.kind = old.kind AND new.name = old.name
ORDER BY pair, len(old.modules) DESC, new.name, new.kind;
