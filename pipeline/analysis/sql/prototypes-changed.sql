-- Which functions are declared in another way?
--
-- By types of parameters and of what is returned: names of parameters do not count. Of a name with
-- several prototypes, all are listed.
WITH sides AS (
    SELECT pair, unnest([old_kernel, new_kernel]) AS kernel, unnest([false, true]) AS is_new
    FROM pairs
),
functions AS (  -- numbers in place of texts, which take most of the time
    SELECT kernel, replace(coalesce(module, 'vmlinux'), '-', '_') AS object, name, spelling,
           hash(object, name) AS key,
           hash(declaration_fingerprint) AS declaration
    FROM types
    WHERE kind = 'FUNC'
),
candidates AS MATERIALIZED (  -- most names are declared in one way in both
    SELECT pair, key
    FROM sides JOIN functions USING (kernel)
    GROUP BY ALL
    HAVING min(declaration) <> max(declaration) AND bool_or(is_new) AND NOT bool_and(is_new)
),
prototypes AS (
    SELECT pair,
           any_value(object) AS object,
           any_value(name) AS name,
           list_sort(list_distinct(list(declaration) FILTER (NOT is_new))) AS old_declarations,
           list_sort(list_distinct(list(declaration) FILTER (is_new))) AS new_declarations,
           list_sort(list_distinct(list(spelling) FILTER (NOT is_new))) AS old_spellings,
           list_sort(list_distinct(list(spelling) FILTER (is_new))) AS new_spellings
    FROM (FROM functions SEMI JOIN candidates USING (key))
    JOIN sides USING (kernel)
    JOIN candidates USING (pair, key)
    GROUP BY pair, key
)
SELECT old_kernel,
       new_kernel,
       object,
       name,
       array_to_string(old_spellings, '; ') AS old_prototype,
       array_to_string(new_spellings, '; ') AS new_prototype
FROM pairs JOIN prototypes USING (pair)
WHERE old_declarations <> new_declarations
ORDER BY pair, object <> 'vmlinux', object, name;
