-- Which names mean types of several layouts in one kernel?
--
-- Structs, unions and enums of vmlinux and all modules. objects: vmlinux and modules that have one.
WITH declaring AS (  -- enums without enumerators, which declare an enum, and define none
    SELECT kernel, global_id
    FROM types
    WHERE kind IN ('ENUM', 'ENUM64') AND vlen = 0
)
SELECT kernel,
       lower(kind) AS kind,
       name,
       count(DISTINCT layout_fingerprint) AS layouts,
       count(DISTINCT declaration_fingerprint) AS declarations,
       list_sort(list(DISTINCT size)) AS sizes,
       len(list_distinct(flatten(list(modules)))) + bool_or(in_base)::INT AS objects,
       bool_or(in_base) AS in_vmlinux
FROM conflicts ANTI JOIN declaring USING (kernel, global_id)
WHERE kind IN ('STRUCT', 'UNION', 'ENUM', 'ENUM64')
GROUP BY ALL
HAVING layouts > 1
ORDER BY kernel, layouts DESC, objects DESC, name, kind;
