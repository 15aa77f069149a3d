-- Which names mean types of several layouts in one kernel?
--
-- Structs, unions and enums of vmlinux and all modules. objects: vmlinux and modules that have one.
SELECT kernel,
       lower(kind) AS kind,
       name,
       count(DISTINCT layout_fingerprint) AS layouts,
       count(DISTINCT declaration_fingerprint) AS declarations,
       list_sort(list(DISTINCT size)) AS sizes,
       count(DISTINCT object_id) AS objects,
       bool_or(object_id = 0) AS in_vmlinux
FROM types
WHERE kind IN ('STRUCT', 'UNION', 'ENUM', 'ENUM64') AND name IS NOT NULL
      AND NOT (kind IN ('ENUM', 'ENUM64') AND vlen = 0) -- which declares an enum, and defines none
GROUP BY ALL
HAVING layouts > 1
ORDER BY kernel, layouts DESC, objects DESC, name, kind;
