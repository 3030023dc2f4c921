drop table lifecycle.person_exports;
