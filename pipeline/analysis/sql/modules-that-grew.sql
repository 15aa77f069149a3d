-- Which modules hold more BTF than in the kernel before?
--
-- Split BTF in bytes: what vmlinux lacks. Modules that are new are not counted; of modules that
-- shrank, grown_bytes would be less than 0.
SELECT old_kernel,
       new_kernel,
       new.module,
       old.bytes_out AS old_bytes,
       new.bytes_out AS new_bytes,
       new.bytes_out - old.bytes_out AS grown_bytes,
       new.types_out - old.types_out AS grown_types
FROM pairs
JOIN modules AS old ON old.kernel = old_kernel
JOIN modules AS new ON new.kernel = new_kernel
                   AND replace(new.module, '-', '_') = replace(old.module, '-', '_')
WHERE new.bytes_out > old.bytes_out
ORDER BY pair, grown_bytes DESC, new.module;
