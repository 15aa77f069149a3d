-- Which structs and unions are laid out in another way?
--
-- By the fingerprint of the layout: size, offsets and names of members, and what is embedded.
-- change: `own` if the declaration itself changed, `embedded` if only what it embeds did.
WITH sides AS (
    SELECT pair, unnest([old_kernel, new_kernel]) AS kernel, unnest([false, true]) AS is_new
    FROM pairs
),
named AS MATERIALIZED (  -- numbers in place of texts, which take most of the time
    SELECT kernel, replace(coalesce(module, 'vmlinux'), '-', '_') AS object, kind, name, size,
           hash(object, kind, name) AS key,
           hash(layout_fingerprint) AS layout,
           hash(declaration_fingerprint) AS declaration
    FROM types
    WHERE kind IN ('STRUCT', 'UNION') AND name IS NOT NULL
),
candidates AS MATERIALIZED (  -- most names have the same one layout in both
    SELECT pair, key
    FROM sides JOIN named USING (kernel)
    GROUP BY ALL
    HAVING min(layout) <> max(layout) AND bool_or(is_new) AND NOT bool_and(is_new)
),
defined AS (
    SELECT pair,
           any_value(object) AS object,
           any_value(kind) AS kind,
           any_value(name) AS name,
           max(size) FILTER (NOT is_new) AS old_size,
           max(size) FILTER (is_new) AS new_size,
           list_sort(list_distinct(list(layout) FILTER (NOT is_new))) AS old_layouts,
           list_sort(list_distinct(list(layout) FILTER (is_new))) AS new_layouts,
           list_sort(list_distinct(list(declaration) FILTER (NOT is_new))) AS old_declarations,
           list_sort(list_distinct(list(declaration) FILTER (is_new))) AS new_declarations
    FROM (FROM named SEMI JOIN candidates USING (key))
    JOIN sides USING (kernel)
    JOIN candidates USING (pair, key)
    GROUP BY pair, key
)
SELECT old_kernel,
       new_kernel,
       object,
       lower(kind) AS kind,
       name,
       old_size,
       new_size,
       new_size - old_size AS grown_bytes,
       if(old_declarations = new_declarations, 'embedded', 'own') AS change
FROM pairs JOIN defined USING (pair)
WHERE old_layouts <> new_layouts
ORDER BY pair, object <> 'vmlinux', object, name, kind;
