"""The words of the sample rows: places, questions, answers, devices. Japanese and English, as visitors write."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Experience:
    """Something to do in Fukui; `tags` are slugs of TAGS."""

    slug: str
    title: str
    summary: str
    minutes: int
    price: str
    tags: tuple[str, ...]


TAGS: Final = (
    ("vegetarian", "ベジタリアン", "#4caf50"),
    ("vegan", "ヴィーガン", "#2e7d32"),
    ("halal", "ハラール", "#00897b"),
    ("gluten-free", "グルテンフリー", "#ffb300"),
    ("seafood", "海の幸", "#0288d1"),
    ("craft", "ものづくり体験", "#8d6e63"),
    ("onsen", "温泉", "#e57373"),
    ("nature", "自然", "#66bb6a"),
    ("history", "歴史", "#5d4037"),
    ("family", "家族向け", "#ff7043"),
    ("indoor", "雨でも楽しめる", "#78909c"),
    ("quiet", "静か", "#9575cd"),
)

EXPERIENCES: Final = (
    Experience(
        "echizen-washi",
        "越前和紙の紙漉き体験",
        "千五百年の紙の里で一枚を漉く",
        60,
        "low",
        ("craft", "indoor", "family"),
    ),
    Experience("echizen-knife", "Forge a knife in Echizen", "越前打刃物の工房で", 180, "high", ("craft", "history")),
    Experience("echizen-lacquer", "越前漆器の絵付け", "Paint your own lacquer bowl", 90, "middle", ("craft", "indoor")),
    Experience(
        "eiheiji-zazen",
        "永平寺 坐禅体験",
        "Sit with the monks before sunrise",
        120,
        "low",
        ("history", "quiet", "vegetarian"),
    ),
    Experience("dinosaur-museum", "福井県立恐竜博物館", "Dinosaurs, life-sized", 150, "low", ("family", "indoor")),
    Experience("tojinbo", "東尋坊 遊覧船", "Cliffs seen from the water", 40, "middle", ("nature", "family")),
    Experience("awara-onsen", "あわら温泉 日帰り湯", "Day bath in Awara", 120, "middle", ("onsen", "quiet")),
    Experience("echizen-crab", "越前がに 浜茹で", "Crab, straight from the boat", 90, "high", ("seafood",)),
    Experience("oroshi-soba", "越前おろしそば打ち", "Make soba by hand", 75, "low", ("craft", "vegetarian", "family")),
    Experience(
        "shojin-ryori",
        "精進料理",
        "Temple cuisine, entirely from plants",
        90,
        "middle",
        ("vegan", "vegetarian", "history"),
    ),
    Experience("maruoka-castle", "丸岡城", "One of twelve original keeps", 60, "low", ("history",)),
    Experience(
        "ichijodani", "一乗谷朝倉氏遺跡", "A town of the Warring States, rebuilt", 120, "low", ("history", "nature")
    ),
    Experience("mikata-lakes", "三方五湖 カヤック", "Five lakes, five blues", 150, "middle", ("nature",)),
    Experience("sabae-glasses", "鯖江めがね作り", "Make a frame of your own", 240, "high", ("craft", "indoor")),
    Experience(
        "rice-flour-baking", "米粉パン教室", "Bread without wheat", 90, "low", ("gluten-free", "family", "indoor")
    ),
    Experience("halal-dinner", "ハラール対応の夕食", "Local fish, halal kitchen", 90, "middle", ("halal", "seafood")),
)

TOOLS: Final = (
    "search_spots",
    "search_experiences",
    "get_weather",
    "plan_route",
    "check_availability",
    "translate",
    "book_restaurant",
)

QUESTIONS: Final = (
    "明日、福井市で雨でも楽しめる場所はありますか？",
    "ベジタリアンでも食べられるお店を教えてください。",
    "Is there an onsen I can visit without staying the night?",
    "恐竜博物館までバスで何分かかりますか？",
    "How do I get from Kanazawa to Eiheiji?",
    "子ども二人と半日で回れるコースを作って😊",
    "予約を二名に変更したいです。山田と申します。電話は090-0000-0000です。",
    "越前がにはいつからいつまで食べられますか？",
    "Can you find a halal restaurant near Awara station?",
    "紙漉き体験は英語で受けられる？",
    "ありがとう！",
    "",
)

ANSWERS: Final = (
    "はい、候補を三つ見つけました。恐竜博物館は屋内で、福井駅から約60分です。",
    "Yes: several inns in Awara open their baths to day visitors, usually from 13:00 to 21:00.",
    "申し訳ありません。その日は満席です。翌日の10時ならご案内できます。",
    "金沢からは新幹線で約25分、福井駅から永平寺ライナーで約30分です。",
    "I have put together a half-day route:\n1. 越前和紙の里\n2. おろしそば\n3. 鯖江",
    "漁は11月6日から3月20日までです。",
)

# What an answer says about each place that it lists.
DETAILS: Final = (
    "福井駅からバスで約40分、平日は比較的すいています。雨の日でも楽しめるので、天気が心配な方にもおすすめです。",
    "Booking a day ahead is enough on weekdays; on Saturdays the morning slots are usually gone by Wednesday.",
    "館内には英語の案内があり、受付で音声ガイドを借りられます。小さなお子さま連れの方も多く、休憩所も広めです。",
    "There is a small car park, and the bus stops in front. Please bring cash, cards are not accepted everywhere.",
    "所要時間は人によって変わりますが、写真を撮りながらゆっくり回ると一時間半ほどです。近くに食事のできる店もあります。",
    "The staff speak some English and gladly explain the history; vegetarian lunch is possible if you tell them early.",
)
CLOSINGS: Final = (
    "気になる場所があれば、空き状況をお調べします。人数とご希望の時間を教えてください。",
    "Shall I put these into an itinerary, with trains and buses between them?",
    "営業時間は変わることがありますので、出発の前にもう一度ご確認ください。よい旅を！",
)
REVIEWS: Final = (
    "とても良い体験でした。{name}さんの説明が丁寧で、子どもも楽しめました。",
    "Wonderful morning, thank you {name}! We would come again in autumn.",
    "少し混んでいたけれど、景色は最高。",
    "Hard to find without Japanese, but worth it.",
    "",
)
# slug, name
CATEGORIES: Final = (
    ("culture", "文化"),
    ("food", "Food and drink"),
    ("outdoors", "自然の中で"),
    ("wellness", "Wellness"),
)

SEARCHES: Final = (
    "恐竜博物館", "越前がに", "温泉 日帰り", "そば", "永平寺 坐禅", "halal", "vegetarian lunch", "雨の日",
    "カヤック", "めがね", "onsen near station", "family activities", "東尋坊", "和紙", "soba", "vegan", "駐車場",
    "Wi-Fi", "crab season", "子連れ", "knife making", "桜", "花火", "ゆかた", "",
)  # fmt: skip

PAGES: Final = (
    "/", "/experiences", "/experiences/echizen-washi", "/experiences/echizen-knife", "/experiences/eiheiji-zazen",
    "/experiences/tojinbo", "/experiences/awara-onsen", "/experiences/oroshi-soba", "/experiences/dinosaur-museum",
    "/ja", "/ja/体験/越前漆器", "/quiz", "/quiz/result", "/chat", "/bookings", "/account", "/about", "/access",
    "/search?q=%E6%81%90%E7%AB%9C", "/ja/検索?q=温泉",
)  # fmt: skip

# user agent, screen, viewport, language, time zone
DEVICES: Final = (
    (
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1",
        "390x844",
        "390x664",
        "ja-JP",
        "Asia/Tokyo",
    ),
    (
        "Mozilla/5.0 (Linux; Android 15; Pixel 9) AppleWebKit/537.36 Chrome/131.0 Mobile Safari/537.36",
        "412x915",
        "412x783",
        "ja",
        "Asia/Tokyo",
    ),
    (
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/131.0 Safari/537.36",
        "1920x1080",
        "1905x969",
        "ja",
        "Asia/Tokyo",
    ),
    (
        "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_7) AppleWebKit/605.1.15 Version/18.1 Safari/605.1.15",
        "1512x982",
        "1512x860",
        "en-US",
        "America/New_York",
    ),
    (
        "Mozilla/5.0 (X11; Linux x86_64; rv:133.0) Gecko/20100101 Firefox/133.0",
        "2560x1440",
        "2560x1300",
        "en-GB",
        "Europe/London",
    ),
    (
        "Mozilla/5.0 (iPad; CPU OS 18_1 like Mac OS X) AppleWebKit/605.1.15 Safari/604.1",
        "820x1180",
        "820x1106",
        "zh-TW",
        "Asia/Taipei",
    ),
)

REFERRERS: Final = ("https://www.google.com/", "https://www.instagram.com/", "https://t.co/", "https://www.fuku-e.com/")

FAMILY_NAMES: Final = ("山田", "佐藤", "Tanaka", "Smith", "García", "陳", "김", "O'Brien", "鈴木", "Müller")
GIVEN_NAMES: Final = ("花子", "太郎", "Yuki", "Alice", "José", "美玲", "민준", "Anna", "健", "Sören")
COUNTRIES: Final = ("Japan", "Taiwan", "United States", "France", "Australia", "韓国", "Malaysia")
PURPOSES: Final = ("観光", "food", "craft", "温泉", "business", "family visit")
ISSUES: Final = ("言葉", "transport", "payment", "Wi-Fi", "食事制限")

# question_ref, possible slugs, whether several may be chosen
QUIZ_QUESTIONS: Final = (
    ("dietary_preferences", ("vegetarian", "vegan", "halal", "gluten-free", "none"), True),
    ("favorite_themes", ("craft", "onsen", "nature", "history", "seafood"), True),
    ("travel_party", ("family", "couple", "solo", "friends"), False),
    ("atmosphere", ("quiet", "lively"), False),
    ("rainy_day_plan", ("indoor", "outdoor"), False),
)
# code, name, emoji
TRAVEL_TYPES: Final = (
    ("ARTISAN", "ものづくり派", "🏺"),
    ("GOURMET", "Gourmet", "🍣"),
    ("HEALER", "癒やし派", "♨️"),
    ("EXPLORER", "Explorer", "🧭"),
)
# What the quiz asks since its latest version: three arrays of the result.
DIETARY_CODES: Final = ("vegetarian", "vegan", "halal", "gluten-free", "allergies", "none")
LANGUAGE_CODES: Final = ("english", "japanese", "chinese", "korean", "none")
PHOTO_CODES: Final = ("raw fish", "crowds", "expensive", "long stairs", "alcohol")
