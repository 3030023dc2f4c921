-- The tables go with everything in them; the dashboards' views have let go of them by now.
drop view lifecycle.data_quality_history;
drop function lifecycle.reconcile_statistics(int, int);
drop function public.refresh_analytics_hourly(text);
drop function lifecycle.refresh_materialized_view(lifecycle.materialized_view_policies);
drop function lifecycle.source_changes(text[]);
drop function public.refresh_derived_statistics(timestamptz, timestamptz);
drop function lifecycle.lock_analytics();
drop function lifecycle.refresh_statistics(text[], text);
drop function lifecycle.statistic_names();
drop function lifecycle.refresh_hourly_usage_patterns(timestamptz);
drop function lifecycle.refresh_chat_usage_by_account(timestamptz);
drop function lifecycle.refresh_user_engagement_scores(timestamptz);
drop function lifecycle.refresh_weekly_monthly_active_users(timestamptz);
drop function lifecycle.refresh_daily_active_users(timestamptz);
drop function lifecycle.refresh_data_quality_metrics(timestamptz);
drop function lifecycle.data_quality_status(numeric, lifecycle.data_quality_thresholds);
drop function lifecycle.refresh_chat_performance_metrics(timestamptz);
drop function lifecycle.refresh_feature_usage_summary(timestamptz);
drop function lifecycle.refresh_account_function_usage(timestamptz);
drop table lifecycle.hourly_usage_patterns,
    lifecycle.chat_usage_by_account,
    lifecycle.feature_usage_summary,
    lifecycle.user_engagement_scores,
    lifecycle.weekly_monthly_active_users,
    lifecycle.daily_active_users,
    lifecycle.data_quality_metrics,
    lifecycle.chat_performance_metrics,
    lifecycle.function_usage_totals,
    lifecycle.refresh_states,
    lifecycle.materialized_view_policies,
    lifecycle.data_quality_thresholds;
