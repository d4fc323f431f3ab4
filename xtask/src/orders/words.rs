//! What orders are made of: places, people and articles.
//!
//! In many scripts, with what JSON must escape and with letters that UTF-8 needs two to four bytes for, because that is what
//! a shop's orders are like, and what breaks software.

/// A part of the world with its own names, script, money and ways to write an address.
pub(super) struct Place {
    /// The language of the customer.
    pub(super) locale: &'static str,
    /// What is paid with.
    pub(super) currency: &'static str,
    /// How many digits this money has after the point.
    pub(super) decimals: u32,
    /// About how many units of this money an article costs at the least.
    pub(super) unit: i64,
    /// What a telephone number begins with.
    pub(super) phone: &'static str,
    /// A postal code: `#` stands for a digit, `@` for a letter. Empty where there are none.
    pub(super) zip: &'static str,
    /// Cities with their regions.
    pub(super) cities: &'static [(&'static str, &'static str)],
    /// Streets, as they stand before or after the number, which `#` stands for.
    pub(super) streets: &'static [&'static str],
    /// People.
    pub(super) people: &'static [&'static str],
    /// Who brings the parcel.
    pub(super) carriers: &'static [&'static str],
}

/// An article of the shop.
pub(super) struct Article {
    pub(super) name: &'static str,
    pub(super) brand: &'static str,
    /// The sizes there are of it.
    pub(super) sizes: &'static [&'static str],
}

/// Where people order from.
pub(super) const PLACES: &[Place] = &[
    Place {
        locale: "en",
        currency: "ILS",
        decimals: 2,
        unit: 4,
        phone: "+972",
        zip: "#######",
        cities: &[
            ("Kiryat Motzkin", "Haifa"),
            ("תל אביב-יפו", "מחוז תל אביב"),
            ("חיפה", "מחוז חיפה"),
        ],
        streets: &["Ploshad Mira #", "רחוב הרצל #", "שדרות בן גוריון #, דירה 4"],
        people: &["Noa Levi", "יעל כהן", "אבי מזרחי", "Test Testov"],
        carriers: &["meest", "doar"],
    },
    Place {
        locale: "ru",
        currency: "KZT",
        decimals: 2,
        unit: 500,
        phone: "+7",
        zip: "######",
        cities: &[
            ("Алматы", "Алматинская область"),
            ("Астана", ""),
            ("Шымкент", "Түркістан облысы"),
        ],
        streets: &[
            "ул. Абая, д. #, кв. 7",
            "проспект Достык, #/2",
            "Қонаев көшесі, #",
        ],
        people: &[
            "Анна Ёлкина",
            "Ербол Сәрсенов",
            "Пётр Щукин",
            "Гүлнар Әбдірахманова",
        ],
        carriers: &["kazpost", "meest"],
    },
    Place {
        locale: "uk",
        currency: "UAH",
        decimals: 2,
        unit: 40,
        phone: "+380",
        zip: "#####",
        cities: &[
            ("Київ", ""),
            ("Львів", "Львівська область"),
            ("Кам’янець-Подільський", "Хмельницька область"),
        ],
        streets: &["вул. Хрещатик, #", "просп. Перемоги, #-А", "пл. Ринок, #"],
        people: &["Соломія Ґалаган", "Тарас Їжакевич", "Мар’яна О’Коннор"],
        carriers: &["meest", "nova"],
    },
    Place {
        locale: "ja",
        currency: "JPY",
        decimals: 0,
        unit: 150,
        phone: "+81",
        zip: "###-####",
        cities: &[
            ("東京都千代田区", "関東"),
            ("京都市", "近畿"),
            ("札幌市", "北海道"),
        ],
        streets: &["丸の内#丁目2-3", "四条通烏丸東入#番", "メゾン・ド・さくら #号室"],
        people: &["佐藤 花子", "𠮷田 健", "スミス・ジョン"],
        carriers: &["yamato", "ゆうパック"],
    },
    Place {
        locale: "zh",
        currency: "CNY",
        decimals: 2,
        unit: 8,
        phone: "+86",
        zip: "######",
        cities: &[("北京市", "朝阳区"), ("上海市", "浦东新区"), ("成都市", "四川省")],
        streets: &["建国路#号", "人民南路#号院3单元", "世纪大道#弄"],
        people: &["王小明", "李娜", "欧阳修远"],
        carriers: &["sf", "中通"],
    },
    Place {
        locale: "ko",
        currency: "KRW",
        decimals: 0,
        unit: 1_300,
        phone: "+82",
        zip: "#####",
        cities: &[("서울특별시", "강남구"), ("부산광역시", "해운대구")],
        streets: &["테헤란로 #길 12", "해운대로 # (101동 1203호)"],
        people: &["김민준", "이서연"],
        carriers: &["cj", "우체국"],
    },
    Place {
        locale: "ar",
        currency: "EGP",
        decimals: 2,
        unit: 30,
        phone: "+20",
        zip: "#####",
        cities: &[("القاهرة", "محافظة القاهرة"), ("الإسكندرية", "")],
        streets: &["شارع التحرير، #", "# شارع قصر النيل، الدور ٣"],
        people: &["فاطمة الزهراء", "محمد عبد الرحمن"],
        carriers: &["aramex"],
    },
    Place {
        locale: "ar",
        currency: "KWD",
        decimals: 3,
        unit: 1,
        phone: "+965",
        zip: "#####",
        cities: &[("مدينة الكويت", "العاصمة"), ("حولي", "")],
        streets: &["قطعة #، شارع ٥", "Block #, Street 12\nVilla 3"],
        people: &["نورة الصباح", "Yousef Al-Ali"],
        carriers: &["aramex"],
    },
    Place {
        locale: "hi",
        currency: "INR",
        decimals: 2,
        unit: 90,
        phone: "+91",
        zip: "######",
        cities: &[("मुंबई", "महाराष्ट्र"), ("बेंगलुरु", "ಕರ್ನಾಟಕ"), ("சென்னை", "தமிழ்நாடு")],
        streets: &["महात्मा गांधी मार्ग #", "#/3, 2nd Cross, 5th Main", "அண்ணா சாலை #"],
        people: &["प्रिया शर्मा", "ಕಾವ್ಯ ಹೆಗಡೆ", "முத்து குமார்"],
        carriers: &["bluedart", "delhivery"],
    },
    Place {
        locale: "th",
        currency: "THB",
        decimals: 2,
        unit: 35,
        phone: "+66",
        zip: "#####",
        cities: &[("กรุงเทพมหานคร", "เขตปทุมวัน"), ("เชียงใหม่", "")],
        streets: &["ถนนพระรามที่ ๑ #", "ซอย สุขุมวิท #/1"],
        people: &["สมชาย ใจดี", "กัญญา ศรีสุข"],
        carriers: &["flash"],
    },
    Place {
        locale: "de",
        currency: "EUR",
        decimals: 2,
        unit: 2,
        phone: "+49",
        zip: "#####",
        cities: &[
            ("München", "Bayern"),
            ("Köln", "Nordrhein-Westfalen"),
            ("Gießen", "Hessen"),
        ],
        streets: &[
            "Große Straße #",
            "Am Müllerbächle # a",
            "Straße des 17. Juni #\n\tHinterhaus, 2. Stock",
        ],
        people: &["Jörg Weiß", "Zoë Großmann", "Karl \"Charly\" Öztürk"],
        carriers: &["dhl", "hermes"],
    },
    Place {
        locale: "pt-BR",
        currency: "BRL",
        decimals: 2,
        unit: 6,
        phone: "+55",
        zip: "#####-###",
        cities: &[("São Paulo", "SP"), ("Florianópolis", "SC")],
        streets: &["Rua São João, nº #", "Avenida Conceição, # – apto. 12"],
        people: &["João d'Ávila", "Conceição Magalhães"],
        carriers: &["correios"],
    },
    Place {
        locale: "tr",
        currency: "TRY",
        decimals: 2,
        unit: 45,
        phone: "+90",
        zip: "#####",
        cities: &[("İstanbul", "Beyoğlu"), ("Iğdır", ""), ("Şanlıurfa", "")],
        streets: &["İstiklâl Caddesi No: #", "Çınar Sokağı #/B"],
        people: &["Işıl Çağlar", "Ömer Gündoğdu"],
        carriers: &["ptt", "yurtiçi"],
    },
    Place {
        locale: "el",
        currency: "EUR",
        decimals: 2,
        unit: 2,
        phone: "+30",
        zip: "### ##",
        cities: &[("Αθήνα", "Αττική"), ("Θεσσαλονίκη", "")],
        streets: &["Οδός Ερμού #", "Λεωφ. Αλεξάνδρας #"],
        people: &["Ελένη Παπαδοπούλου", "Γιώργος Καζαντζής"],
        carriers: &["elta"],
    },
    Place {
        locale: "is",
        currency: "ISK",
        decimals: 0,
        unit: 200,
        phone: "+354",
        zip: "###",
        cities: &[("Reykjavík", ""), ("Þorlákshöfn", "Suðurland")],
        streets: &["Laugavegur #", "Bæjarhvammur #"],
        people: &["Þórður Guðmundsson", "Sigríður Ægisdóttir"],
        carriers: &["pósturinn"],
    },
    Place {
        locale: "en-GB",
        currency: "GBP",
        decimals: 2,
        unit: 2,
        phone: "+44",
        zip: "@@# #@@",
        cities: &[
            ("London", ""),
            ("Stoke-on-Trent", "Staffordshire"),
            ("Westward Ho!", "Devon"),
        ],
        streets: &[
            "Flat 2/1, # High Street",
            "#B Baker Street",
            "The Old Mill\\Annexe, # Mill Lane",
        ],
        people: &["Siobhán O'Neill", "Renée <Ren> Smith & Sons", "A. N. Other"],
        carriers: &["royal-mail", "dpd"],
    },
    Place {
        locale: "en-HK",
        currency: "HKD",
        decimals: 2,
        unit: 9,
        phone: "+852",
        zip: "",
        cities: &[("香港", "九龍"), ("Hong Kong", "Kowloon")],
        streets: &["彌敦道#號 3樓B室", "# Nathan Road, 3/F, Rm. B"],
        people: &["陳大文", "Chan Tai Man 🐉"],
        carriers: &["sf"],
    },
];

const ONE_SIZE: &[&str] = &["0"];
const CLOTHES: &[&str] = &["XS", "S", "M", "L", "XL", "4XL"];
const SHOES: &[&str] = &["36", "38½", "42.5", "45"];

/// What people order.
pub(super) const ARTICLES: &[Article] = &[
    article("Mascaras", "Vivienne Sabo", ONE_SIZE),
    article("T-shirt \"Hello, World\\n\"", "/dev/null", CLOTHES),
    article("Frying pan 12\" / 30 cm", "Brüder & Söhne", ONE_SIZE),
    article("Кроссовки беговые", "Ёж", SHOES),
    article("抹茶セット(茶筅・茶杓)", "一保堂", ONE_SIZE),
    article("Café crème 250\u{a0}g", "L’Été", ONE_SIZE),
    article("Cafe\u{301} filter no. 4", "Melita's", ONE_SIZE),
    article("Pride flag 🏳️‍🌈 90×150", "👩‍👩‍👧‍👦 & Co.", ONE_SIZE),
    article("USB-C cable\t2 m", "Ⅴolt", &["1 m", "2 m"]),
    article("Poster\u{2028}„Nordlicht“", "Þoka", &["A2", "A3", "50×70"]),
    article("Rock t-shirt AC\\DC", "Backslash", CLOTHES),
    article("हल्दी 100 ग्राम", "मसाला घर", ONE_SIZE),
    article("زيت زيتون بكر", "الزيتونة", &["½ l", "1 l"]),
    article("Schlüsselanhänger ß", "STRASSE", ONE_SIZE),
    article("김치 냉장고", "딤채", ONE_SIZE),
    article("Kettle <1.7 l> & lid", "Tom's; DROP TABLE tea", ONE_SIZE),
    article("Screws M3×8, piece", "Norm", &["M3", "M4"]),
    article("🎸", "𝔉raktur Guitars", ONE_SIZE),
    article("Ordinary socks", "Plain", CLOTHES),
    article("Notebook, 96 pages", "Plain", &["A4", "A5"]),
];

/// How orders are paid.
pub(super) const PROVIDERS: &[&str] = &["wbpay", "card", "wallet", "invoice"];
/// Which bank stands behind a payment.
pub(super) const BANKS: &[&str] = &["alpha", "", "Æther Bank", "中央", "Crédit & Co", "beta"];
/// How far an article has come.
pub(super) const STATUSES: &[i32] = &[200, 201, 202, 202, 202, 300, 400];

const fn article(name: &'static str, brand: &'static str, sizes: &'static [&'static str]) -> Article {
    Article { name, brand, sizes }
}
