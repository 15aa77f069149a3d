-- Which structs and unions are laid out in another way?
--
-- By the fingerprint of the layout: size, offsets and names of members, and what is embedded.
-- change: `own` if the declaration itself changed, `embedded` if only what it embeds did.
WITH named AS (
    SELECT kernel, replace(coalesce(module, 'vmlinux'), '-', '_') AS object, kind, name, size,
           layout_fingerprint, declaration_fingerprint
    FROM types
    WHERE kind IN ('STRUCT', 'UNION') AND name IS NOT NULL
),
layouts AS (  -- most names have one
    SELECT kernel, object, kind, name,
           min(hash(layout_fingerprint)) AS least,
           max(hash(layout_fingerprint)) AS most
    FROM named
    GROUP BY ALL
),
candidates AS (
    SELECT pair, old_kernel, new_kernel, object, kind, name
    FROM pairs
    JOIN layouts AS old ON old.kernel = old_kernel
    JOIN layouts AS new USING (object, kind, name)
    WHERE new.kernel = new_kernel
      AND (new.least <> old.least OR new.most <> old.most OR new.least <> new.most)
),
defined AS (
    SELECT kernel, object, kind, name,
           max(size) AS size,
           list_sort(list(DISTINCT layout_fingerprint)) AS layouts,
           list_sort(list(DISTINCT declaration_fingerprint)) AS declarations
    FROM named
    SEMI JOIN (
        SELECT unnest([old_kernel, new_kernel]) AS kernel, object, kind, name FROM candidates
    ) USING (kernel, object, kind, name)
    GROUP BY ALL
)
SELECT old_kernel,
       new_kernel,
       object,
       lower(one.kind) AS kind,
       name,
       old.size AS old_size,
       new.size AS new_size,
       new.size - old.size AS grown_bytes,
       if(old.declarations = new.declarations, 'embedded', 'own') AS change
FROM candidates AS one
JOIN defined AS old USING (object, kind, name)
JOIN defined AS new USING (object, kind, name)
WHERE old.kernel = old_kernel AND new.kernel = new_kernel AND new.layouts <> old.layouts
ORDER BY pair, object <> 'vmlinux', object, name, one.kind;
