-- Which members point to another type?
--
-- Members of one name that are pointers in both kernels, to types that C spells in another way.
-- A struct that several types of an object are called is left out.
WITH pointers AS (
    SELECT m.kernel,
           replace(coalesce(t.module, 'vmlinux'), '-', '_') AS object,
           t.kind,
           t.name AS type,
           m.name AS member,
           any_value(m.type) AS spelling
    FROM members AS m
    JOIN types AS t ON t.kernel = m.kernel AND t.global_id = m.global_id
    JOIN types AS p ON p.kernel = m.kernel AND p.global_id = m.type_global_id
    WHERE t.kind IN ('STRUCT', 'UNION') AND t.name IS NOT NULL AND m.name IS NOT NULL
          AND p.kind = 'PTR'
    GROUP BY ALL
    HAVING count(*) = 1
)
SELECT old_kernel,
       new_kernel,
       new.object,
       lower(new.kind) || ' ' || new.type AS type,
       new.member,
       old.spelling AS old_pointer,
       new.spelling AS new_pointer
FROM pairs
JOIN pointers AS old ON old.kernel = old_kernel
JOIN pointers AS new ON new.kernel = new_kernel AND new.object = old.object
                    AND new.kind = old.kind AND new.type = old.type AND new.member = old.member
WHERE new.spelling <> old.spelling
ORDER BY pair, new.object <> 'vmlinux', new.object, new.type, new.member;
