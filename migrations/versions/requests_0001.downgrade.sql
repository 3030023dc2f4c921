drop table lifecycle.deletion_requests;
