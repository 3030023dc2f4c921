-- The application's types.

create type account_status as enum ('active', 'suspended', 'deleted');
create type activity_status as enum ('draft', 'published', 'archived');
create type activity_type as enum ('company_affiliated', 'shibuya_pass', 'partner_store');
create type article_status as enum ('draft', 'in_review', 'published', 'archived');
create type asset_type as enum ('image', 'video', 'document', 'qr_coupon');
create type booking_status as enum ('pending', 'confirmed', 'redeemed', 'cancelled');
create type chat_session_type as enum ('assistant', 'vendor_support', 'system');
create type deletion_request_status as enum ('pending', 'processing', 'completed', 'failed');
create type generated_activity_save_source as enum ('chat', 'recommendation', 'manual');
create type generated_activity_status as enum ('draft', 'approved', 'rejected', 'published');
create type interaction_source_type as enum ('manual', 'quiz', 'recommendation', 'chat', 'migration');
create type interaction_type as enum ('like', 'bookmark', 'view', 'share', 'book', 'qr_scan', 'ai_save');
create type job_status as enum ('queued', 'processing', 'ready', 'failed');
create type quiz_result_type as enum ('travel_type', 'destination_cluster');
create type quiz_session_status as enum ('in_progress', 'completed', 'abandoned');
create type recommendation_trigger as enum ('quiz_result', 'chat_prompt', 'manual', 'cron');
