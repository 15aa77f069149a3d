-- Which members point to another type?
--
-- Members of one name that are pointers in both kernels, to types that C spells in another way.
-- A struct that several types of an object are called is left out.
WITH named AS (
    SELECT kernel, replace(coalesce(module, 'vmlinux'), '-', '_') AS object, kind, name,
           global_id, declaration_fingerprint
    FROM types
    WHERE kind IN ('STRUCT', 'UNION') AND name IS NOT NULL
),
declared AS (
    SELECT kernel, object, kind, name,
           min(hash(declaration_fingerprint)) AS least,
           max(hash(declaration_fingerprint)) AS most
    FROM named
    GROUP BY ALL
),
candidates AS (  -- a member of another type makes another declaration
    SELECT pair, old_kernel, new_kernel, object, kind, name
    FROM pairs
    JOIN declared AS old ON old.kernel = old_kernel
    JOIN declared AS new USING (object, kind, name)
    WHERE new.kernel = new_kernel
      AND (new.least <> old.least OR new.most <> old.most OR new.least <> new.most)
),
pointers AS (
    SELECT m.kernel, t.object, t.kind, t.name AS type, m.name AS member,
           any_value(m.type) AS spelling
    FROM members AS m
    JOIN (
        FROM named SEMI JOIN (
            SELECT unnest([old_kernel, new_kernel]) AS kernel, object, kind, name FROM candidates
        ) USING (kernel, object, kind, name)
    ) AS t USING (kernel, global_id)
    JOIN types AS p ON p.kernel = m.kernel AND p.global_id = m.type_global_id
    WHERE m.name IS NOT NULL AND p.kind = 'PTR'
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
