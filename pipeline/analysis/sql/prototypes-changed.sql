-- Which functions are declared in another way?
--
-- By types of parameters and of what is returned: names of parameters do not count. Of a name with
-- several prototypes, all are listed.
WITH declared AS (
    SELECT kernel,
           replace(coalesce(module, 'vmlinux'), '-', '_') AS object,
           name,
           list_sort(list(DISTINCT declaration_fingerprint)) AS declarations,
           string_agg(DISTINCT spelling, '; ' ORDER BY spelling) AS prototype
    FROM types
    WHERE kind = 'FUNC'
    GROUP BY ALL
)
SELECT old_kernel,
       new_kernel,
       new.object,
       new.name,
       old.prototype AS old_prototype,
       new.prototype AS new_prototype
FROM pairs
JOIN declared AS old ON old.kernel = old_kernel
JOIN declared AS new ON new.kernel = new_kernel AND new.object = old.object
                    AND new.name = old.name
WHERE new.declarations <> old.declarations
ORDER BY pair, new.object <> 'vmlinux', new.object, new.name;
