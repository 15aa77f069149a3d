-- Which members point to another type?
--
-- Members of one name that are pointers in both kernels, to types that C spells in another way.
-- Those of anonymous structs and unions are members of the type around them, as C has it.
-- A struct that several types of an object are called is left out.
WITH RECURSIVE sides AS (
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
changed AS MATERIALIZED (
    FROM named SEMI JOIN (
        SELECT kernel, key FROM candidates JOIN sides USING (pair)
    ) USING (kernel, key)
),
steps AS MATERIALIZED (  -- into members without a name, and behind typedefs and qualifiers
    SELECT kernel, global_id, type_global_id AS inside
    FROM members
    WHERE name IS NULL AND kind IN ('STRUCT', 'UNION') AND bitfield_size IS NULL
    UNION ALL
    SELECT kernel, global_id, target_global_id
    FROM types
    WHERE kind IN ('TYPEDEF', 'CONST', 'VOLATILE', 'RESTRICT', 'TYPE_TAG')
),
within AS (
    SELECT kernel, global_id, inside
    FROM changed JOIN steps USING (kernel, global_id)
    UNION
    SELECT w.kernel, w.global_id, s.inside
    FROM within AS w JOIN steps AS s ON s.kernel = w.kernel AND s.global_id = w.inside
),
inner_types AS (  -- as one list, or DuckDB takes a recursion for large, and is slow
    SELECT unnest(found, recursive := true)
    FROM (SELECT list({kernel: kernel, global_id: global_id, inside: inside}) AS found FROM within)
),
places AS MATERIALIZED (  -- where members of these types are
    SELECT kernel, key, object, kind, name, global_id FROM changed
    UNION ALL
    SELECT kernel, key, object, kind, name, inside
    FROM changed JOIN inner_types USING (kernel, global_id)
),
own_members AS MATERIALIZED (
    SELECT kernel, key, object, places.kind, places.name, m.name AS member, m.type,
           m.type_global_id
    FROM members AS m JOIN places USING (kernel, global_id)
    WHERE m.name IS NOT NULL
),
differing AS MATERIALIZED (
    SELECT key, member
    FROM sides JOIN own_members USING (kernel)
    GROUP BY pair, key, member
    HAVING min(hash(type)) <> max(hash(type)) AND bool_or(is_new) AND NOT bool_and(is_new)
),
pointers AS MATERIALIZED (
    SELECT kernel, key, member,
           any_value(object) AS object,
           any_value(f.kind) AS kind,
           any_value(f.name) AS name,
           any_value(type) AS spelling
    FROM (FROM own_members SEMI JOIN differing USING (key, member)) AS f
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
