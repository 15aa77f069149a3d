-- Which structs and unions are laid out in another way?
--
-- By the fingerprint of the layout: size, offsets and names of members, and what is embedded.
-- change: `own` if the declaration itself changed, `embedded` if only what it embeds did.
WITH defined AS (
    SELECT kernel,
           replace(coalesce(module, 'vmlinux'), '-', '_') AS object,
           kind,
           name,
           max(size) AS size,
           list_sort(list(DISTINCT layout_fingerprint)) AS layouts,
           list_sort(list(DISTINCT declaration_fingerprint)) AS declarations
    FROM types
    WHERE kind IN ('STRUCT', 'UNION') AND name IS NOT NULL
    GROUP BY ALL
)
SELECT old_kernel,
       new_kernel,
       new.object,
       lower(new.kind) AS kind,
       new.name,
       old.size AS old_size,
       new.size AS new_size,
       new.size - old.size AS grown_bytes,
       if(old.declarations = new.declarations, 'embedded', 'own') AS change
FROM pairs
JOIN defined AS old ON old.kernel = old_kernel
JOIN defined AS new ON new.kernel = new_kernel AND new.object = old.object
                   AND new.kind = old.kind AND new.name = old.name
WHERE new.layouts <> old.layouts
ORDER BY pair, new.object <> 'vmlinux', new.object, new.name, new.kind;
