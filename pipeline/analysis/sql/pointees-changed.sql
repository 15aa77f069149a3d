-- Which members point to another type?
--
-- Members of one name that are pointers in both kernels, to types that C spells in another way.
-- A struct that several types of an object are called is left out.
WITH sides AS (
    SELECT pair, unnest([old_kernel, new_kernel]) AS kernel, unnest([false, true]) AS is_new
    FROM pairs
),
named AS MATERIALIZED (  -- numbers in place of texts, which take most of the time
    SELECT kernel, replace(coalesce(module, 'vmlinux'), '-', '_') AS object, kind, name, global_id,
           hash(object, kind, name) AS key,
           hash(declaration_fingerprint) AS declaration
    FROM types
    WHERE kind IN ('STRUCT', 'UNION') AND name IS NOT NULL
),
candidates AS MATERIALIZED (  -- a member of another type makes another declaration
    SELECT pair, key
    FROM sides JOIN named USING (kernel)
    GROUP BY ALL
    HAVING min(declaration) <> max(declaration) AND bool_or(is_new) AND NOT bool_and(is_new)
),
changed AS (
    FROM named SEMI JOIN (
        SELECT kernel, key FROM candidates JOIN sides USING (pair)
    ) USING (kernel, key)
),
fields AS MATERIALIZED (
    SELECT kernel, key, object, changed.kind, changed.name, m.name AS member, m.type,
           m.type_global_id
    FROM members AS m JOIN changed USING (kernel, global_id)
    WHERE m.name IS NOT NULL
),
differing AS MATERIALIZED (
    SELECT key, member
    FROM sides JOIN fields USING (kernel)
    GROUP BY pair, key, member
    HAVING min(hash(type)) <> max(hash(type)) AND bool_or(is_new) AND NOT bool_and(is_new)
),
pointers AS MATERIALIZED (
    SELECT kernel, key, member,
           any_value(object) AS object,
           any_value(f.kind) AS kind,
           any_value(f.name) AS name,
           any_value(type) AS spelling
    FROM (FROM fields SEMI JOIN differing USING (key, member)) AS f
    JOIN types AS p USING (kernel)
    WHERE p.global_id = f.type_global_id AND p.kind = 'PTR'
    GROUP BY kernel, key, member
    HAVING count(*) = 1
)
SELECT old_kernel,
       new_kernel,
       new.object,
       lower(new.kind) || ' ' || new.name AS type,
       member,
       old.spelling AS old_pointer,
       new.spelling AS new_pointer
FROM pairs
JOIN pointers AS old ON old.kernel = old_kernel
JOIN pointers AS new USING (key, member)
WHERE new.kernel = new_kernel AND new.spelling <> old.spelling
ORDER BY pair, new.object <> 'vmlinux', new.object, new.name, member;
