-- Which functions are declared in another way?
--
-- By types of parameters and of what is returned: names of parameters do not count. Of a name with
-- several prototypes, all are listed.
WITH functions AS (
    SELECT kernel, replace(coalesce(module, 'vmlinux'), '-', '_') AS object, name,
           spelling, declaration_fingerprint
    FROM types
    WHERE kind = 'FUNC'
),
declared AS (  -- most names in one way
    SELECT kernel, object, name,
           min(hash(declaration_fingerprint)) AS least,
           max(hash(declaration_fingerprint)) AS most
    FROM functions
    GROUP BY ALL
),
candidates AS (
    SELECT pair, old_kernel, new_kernel, object, name
    FROM pairs
    JOIN declared AS old ON old.kernel = old_kernel
    JOIN declared AS new USING (object, name)
    WHERE new.kernel = new_kernel
      AND (new.least <> old.least OR new.most <> old.most OR new.least <> new.most)
),
prototypes AS (
    SELECT kernel, object, name,
           list_sort(list(DISTINCT declaration_fingerprint)) AS declarations,
           string_agg(DISTINCT spelling, '; ' ORDER BY spelling) AS prototype
    FROM functions
    SEMI JOIN (
        SELECT unnest([old_kernel, new_kernel]) AS kernel, object, name FROM candidates
    ) USING (kernel, object, name)
    GROUP BY ALL
)
SELECT old_kernel,
       new_kernel,
       object,
       name,
       old.prototype AS old_prototype,
       new.prototype AS new_prototype
FROM candidates
JOIN prototypes AS old USING (object, name)
JOIN prototypes AS new USING (object, name)
WHERE old.kernel = old_kernel AND new.kernel = new_kernel
  AND new.declarations <> old.declarations
ORDER BY pair, object <> 'vmlinux', object, name;
